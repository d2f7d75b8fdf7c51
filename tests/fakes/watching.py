"""A watched decoy in a folder of its own user, with a fake world that says who is who and a list of incidents."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule
from agent_broker.monitor.fingerprint import facts_by_stat
from agent_broker.monitor.report import Watcher
from agent_broker.monitor.watch import DecoyWatch
from tests.fakes.attestor import World
from tests.fakes.puppet import Puppet

USER = 64123
SYSTEM_PYTHON = "/usr/bin/python3"


class Told:
    """What worlds with a watch share: ``told`` and ``incidents`` get what is published; ``folder`` goes with it."""

    def publish(self, incident):
        self.told.append(incident)
        self.incidents.put_nowait(incident)

    async def all_told(self):
        """Stop watching, and return every incident as it was told last."""
        watch, self.watch = self.watch, None
        if watch is not None:
            await watch.close()
        return list({incident.id: incident for incident in self.told}.values())

    async def close(self):
        await self.all_told()
        for each in self.puppets:
            await each.stop()
        shutil.rmtree(self.folder)


class Watching(Told):
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="decoys-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.decoy = self.new_file(self.new_folder("home") / "credentials")
        self.world = World(strangers=True)
        self.world.owner = USER
        self.incidents = asyncio.Queue()
        self.told = []
        self.watch = None
        self.puppets = []

    def new_folder(self, name):
        path = self.folder / name
        path.mkdir()
        os.chown(path, USER, USER)
        return path

    def new_file(self, path):
        path.write_text('{"token": "decoy"}')
        os.chown(path, USER, USER)
        return path

    def start(self, *, deny=False, permission=True):
        self.watch = DecoyWatch(
            attestor=self.world, hashes=HashCache(), facts_of=facts_by_stat, publish=self.publish,
            clock=SystemClock(), watcher=Watcher(self.world.epoch, "observe+"), permission=permission,
        )  # fmt: skip
        return self.enroll(self.decoy, deny=deny)

    def enroll(self, *paths, deny=False):
        return self.watch.apply_registry([self.enrollment(*paths, deny=deny)])

    def enrollment(self, *paths, agent="claude", deny=False):
        decoys = tuple(DecoyFile(str(path), "claude-oauth", deny) for path in paths)
        return Enrollment(agent, USER, "ann", (), RoleRule((agent,)), decoys, (), 0)

    async def watch_settles(self, until=lambda: True):
        """Let the loop handle what the kernel queued; then go on until something is true."""
        await asyncio.sleep(0)
        while not until():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    async def puppet(self, *, uid=USER, agent="", parent=None):
        puppet = await Puppet.start(uid, program=SYSTEM_PYTHON)
        self.puppets.append(puppet)
        exe = str(Path(f"/proc/{puppet.pid}/exe").readlink())
        if parent is not None:
            self.world.execute(self.world.fork(self.world.processes[parent.pid], puppet.pid), exe)
        else:
            self.world.process(puppet.pid, exe, uid=uid, agent=agent)
        return puppet
