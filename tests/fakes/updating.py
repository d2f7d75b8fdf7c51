"""An enrolled agent that can update itself, on the real kernel: a copy of Python in a versions folder.

The agent is a puppet, so a test says what it writes; ``judge`` does what the monitor does when no more is written.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.enroll.journal import Transaction, TransactionFolder
from agent_broker.enroll.ports import Site
from agent_broker.enroll.updater import Surroundings, Updater
from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule, load_registry, save_enrollment
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store
from tests.fakes.enroll_world import FakeWatch
from tests.fakes.puppet import Puppet

USER = 64127
PYTHON = Path("/usr/bin/python3").resolve()
WRITE = (
    "(lambda f: [f.write(open({source!r}, 'rb').read()), f.close(), os.chmod({target!r}, 0o755)])"
    "(open({target!r}, 'wb'))"
)


class Updating:
    def __init__(self, *ways):
        self.folder = Path(tempfile.mkdtemp(prefix="updates-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.versions = self.folder / "home/.local/share/claude/versions"
        self.launcher = self.folder / "home/.local/bin/claude"
        for path in (self.versions, self.launcher.parent):
            path.mkdir(parents=True)
        self.old = self.versions / "2.1.330"
        self.new = self.versions / "2.1.331"
        shutil.copyfile(PYTHON, self.old)
        self.old.chmod(0o755)
        self.launcher.symlink_to(self.old)
        for path in (self.folder / "home").rglob("*"):
            os.chown(path, USER, USER, follow_symlinks=False)
        self.next_version = self.folder / "downloaded"
        self.next_version.write_bytes(PYTHON.read_bytes() + b"the next version")
        self.registry = self.folder / "state/registry/agents"
        self.registry.mkdir(parents=True)
        self.journal = self.folder / "state/enroll"
        self.journal.mkdir(mode=0o700)
        save_enrollment(self.registry, self.enrollment())
        with TransactionFolder(self.journal) as journal:
            journal.write(self.transaction())
        self.store = Store(scan_strings, str)
        self.sensor = CoreSensor(self.store.apply)
        self.store.link_seeded()
        self.hashes = HashCache()
        self.attestor = Attestor(epoch="e1", tier="observe+", sensor=self.sensor, store=self.store, hashes=self.hashes)
        self.incidents = []
        self.puppets = []
        self.ways = ways
        self.updater = self.new_updater()

    def enrollment(self):
        content = self.old.read_bytes()
        binary = EnrolledBinary(
            str(self.old), hashlib.sha256(content).hexdigest(), len(content), launchers=(str(self.launcher),)
        )
        return Enrollment("claude", USER, "ann", (binary,), RoleRule(("claude",)), (), (), 5)

    def transaction(self):
        """What an enrolment leaves behind."""
        return Transaction(
            id="0", state="enrolled", agent="claude", owner_uid=USER, owner_gid=USER, owner_groups=(USER,),
            owner_name="ann", home=str(self.folder / "home"), started_ns=5, files=(), moved=(),
        )  # fmt: skip

    def site(self):
        """What ``approve`` works with; the monitor is told by ``reload``."""
        watch = FakeWatch()
        return Site(
            store=None, watch=watch, journal_dir=self.journal, registry_dir=self.registry,
            policy_dir=self.folder / "policy.d", clock=SystemClock(),
        )  # fmt: skip

    def enrolled(self):
        return load_registry(self.registry)[0]

    def new_updater(self):
        around = Surroundings(
            attestor=self.attestor, sensor=self.sensor, store=self.store, hashes=self.hashes, clock=SystemClock(),
            journal_dir=self.journal, registry_dir=self.registry, state_file=self.folder / "state/updates",
            tier="observe+", publish=self.incidents.append, reload=self.reload,
        )  # fmt: skip
        return Updater(around, self.ways)

    async def reload(self):
        enrollments = load_registry(self.registry)
        table, problems = await read_enrolled_files(enrollments, self.sensor, self.hashes)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table
        return (*problems, *self.updater.apply_registry(enrollments))

    async def puppet(self, program=PYTHON, uid=USER):
        puppet = await Puppet.start(uid, program=program)
        self.puppets.append(puppet)
        return puppet

    async def attest(self, puppet):
        pidfd = os.pidfd_open(puppet.pid)
        try:
            return await self.attestor.attest(pidfd)
        finally:
            os.close(pidfd)

    async def agent(self):
        """Start the agent, known to the monitor as such."""
        puppet = await self.puppet(self.launcher)
        assert (await self.attest(puppet)).principal.is_caller
        return puppet

    def write(self, target=None):
        """The expression with which a puppet writes the next version."""
        return WRITE.format(source=str(self.next_version), target=str(target or self.new))

    def flip(self):
        """The expression with which a puppet makes the launcher lead to the next version."""
        link = str(self.launcher)
        return f"[os.symlink({str(self.new)!r}, {link + '.new'!r}), os.rename({link + '.new'!r}, {link!r})]"

    def who_wrote(self, path=None):
        fd = os.open(path or self.new, os.O_RDONLY)
        try:
            return self.updater.who_wrote(fd)
        finally:
            os.close(fd)

    async def judge(self):
        await self.updater._judge.consider(load_registry(self.registry))

    async def close(self):
        for each in self.puppets:
            await each.stop()
        await self.updater.close()
        self.sensor.close()
        shutil.rmtree(self.folder)
