"""A home with credentials in it, watched by the shipped catalogue, with a fake world that says who is who."""

import asyncio
import os
import tempfile
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule
from agent_broker.monitor.catalogue import shipped_catalogue
from agent_broker.monitor.credential_rules import PathOptions
from agent_broker.monitor.credentials import Credentials
from agent_broker.monitor.fingerprint import Fingerprints, facts_by_stat
from agent_broker.monitor.learning import Learning
from agent_broker.monitor.programs import Programs
from agent_broker.monitor.report import Watcher
from agent_broker.monitor.watch import DecoyWatch
from tests.fakes.attestor import World
from tests.fakes.distribution import Distribution
from tests.fakes.puppet import Puppet
from tests.fakes.watching import Told

USER = 65534  # nobody: ssh asks who its user is
SYSTEM_PYTHON = "/usr/bin/python3"


class CredentialPaths(Told):
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="credentials-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.home = self.new_folder(self.folder / "home")
        self.state = self.folder / "learnt.json"
        self.distribution = Distribution()
        self.world = World(strangers=True)
        self.world.owner = USER
        self.facts_of = facts_by_stat
        self.attestor = self.world
        self.hashes = HashCache()
        self.told = []
        self.incidents = asyncio.Queue()
        self.watch = self.credentials = self.learning = None
        self.puppets = []

    def new_folder(self, path):
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, USER, USER)
        return path

    def new_file(self, path, text="secret"):
        """Make a file of the user's; relative to the home."""
        path = self.home / path
        missing = [each for each in path.parents if not each.exists()]
        for each in reversed(missing):
            self.new_folder(each)
        path.write_text(text)
        os.chown(path, USER, USER)
        path.chmod(0o600)
        return path

    def start(self, *, catalogue=None, permission=True, allowed=(), **options):
        fingerprints = Fingerprints(self.hashes, self.facts_of)
        self.learning = Learning(self.state)
        self.learning.reload()
        self.credentials = Credentials(
            catalogue or shipped_catalogue(), PathOptions(**options),
            Programs(self.distribution, fingerprints, self.facts_of), self.learning,
            lambda owner: str(self.home) if owner == USER else "",
        )  # fmt: skip
        self.credentials.allow(allowed)
        self.watch = DecoyWatch(
            attestor=self.attestor, hashes=self.hashes, facts_of=self.facts_of, publish=self.publish,
            clock=SystemClock(), watcher=Watcher(self.world.epoch, "observe+"), permission=permission,
            credentials=self.credentials,
        )  # fmt: skip
        return self.enroll()

    def enroll(self, *decoys, planted=()):
        files = tuple(DecoyFile(str(path), "claude-oauth") for path in decoys)
        return self.watch.apply_registry(
            [Enrollment("claude", USER, "ann", (), RoleRule(("claude",)), files, (), 0)], planted
        )

    async def puppet(self, *, uid=USER, agent="", parent=None, program=SYSTEM_PYTHON):
        puppet = await Puppet.start(uid, program=program)
        self.puppets.append(puppet)
        exe = str(Path(f"/proc/{puppet.pid}/exe").readlink())
        if parent is not None:
            self.world.execute(self.world.fork(self.world.processes[parent.pid], puppet.pid), exe)
        else:
            self.world.process(puppet.pid, exe, uid=uid, agent=agent)
        return puppet

    async def run(self, *argv, uid=USER, cwd="/"):
        """Run a program that is unknown to the world: it is read from /proc. Returns its output."""
        process = await asyncio.create_subprocess_exec(
            *argv, user=uid, group=uid, extra_groups=(), cwd=cwd, env={"HOME": str(self.home), "PATH": "/usr/bin"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        return said.decode()

    async def settled(self, until=lambda: True):
        """Let the loop handle what the kernel queued and who opened; then go on until something is true."""
        await asyncio.sleep(0.01)
        while self.credentials._tasks or not until():
            await asyncio.sleep(0.001)

    def marked(self):
        """Return the marked paths below the home."""
        return {os.path.relpath(mark.path, self.home) for mark in self.watch.marked}
