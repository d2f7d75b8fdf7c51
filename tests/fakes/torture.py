"""Real families of processes, made by torture.c, and what an attestor over the real kernel says of them.

The expected lineage is put together from what the kernel says of each process while it lives and speaks
(SCM_CREDENTIALS and its record), so it owes nothing to the store that is tested.
"""

import asyncio
import atexit
import functools
import hashlib
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings as scan
from agent_broker.identity.evidence import Evidence
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.store import Store
from tests.fakes.backends import BACKENDS

_UCRED = struct.Struct("=iII")


@functools.cache
def build_torture() -> Path:
    """Compile torture.c once a test run."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = Path(__file__).with_name("torture.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", folder / "torture", source]
    subprocess.run(command, check=True)
    return folder / "torture"


class Speaker(NamedTuple):
    """A process that spoke, at that moment."""

    pid: int
    """As this process's pid namespace sees it."""
    uid: int
    """Real user id now, in host terms."""
    pidfd: int
    record: TaskRecord


class Family:
    """Processes with one ancestor: the program that ``Torture.start`` started, and the voice that they share."""

    def __init__(self, torture, words, **options):
        self._torture = torture
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs:
            env = {"HOME": "/", "TORTURE_FD": str(theirs.fileno())}
            self.first = subprocess.Popen(words, env=env, pass_fds=(theirs.fileno(),), **options)
        self.speakers = []

    def hear(self, name):
        """Return who says ``name``; it waits until ``go``."""
        data, attached, _, _ = self._ours.recvmsg(256, socket.CMSG_SPACE(_UCRED.size))
        if data.decode() != name:
            raise AssertionError(f"waited for {name!r}, heard {data.decode()!r}")
        pid, uid, _ = _UCRED.unpack(attached[0][2])
        pidfd = os.pidfd_open(pid)
        speaker = Speaker(pid, uid, pidfd, self._torture.sensor.task_record(pidfd))
        self.speakers.append(speaker)
        return speaker

    def go(self):
        """Let the one that spoke last go on."""
        self._ours.send(b"go")

    def follow(self, *names):
        """Hear all of them in this order, let all but the last go on, and return them."""
        heard = []
        for name in names:
            if heard:
                self.go()
            heard.append(self.hear(name))
        return heard

    def reap(self):
        """Kill the first process, if it has not ended, and free its number."""
        self.first.kill()
        self.first.wait()

    def close(self):
        """End all of them, and wait until those that spoke are gone."""
        self._ours.close()
        self.first.wait()
        for speaker in self.speakers:
            select.select([speaker.pidfd], [], [])
            os.close(speaker.pidfd)


class Torture:
    """The kernel side, an attestor, and two programs: the enrolled ``agent`` and ``leaf``, which is nobody."""

    def __init__(self, backend="core"):
        self.folder = Path(tempfile.mkdtemp(prefix="torture-"))
        self.folder.chmod(0o755)  # other users execute them
        self.agent = str(self.folder / "agent")
        self.leaf = str(self.folder / "leaf")
        for program in (self.agent, self.leaf):
            shutil.copy(build_torture(), program)
        self.store = Store(scan, str, kept_after_exit=0)  # the dead are kept for their descendants alone
        self.sensor = BACKENDS[backend](self.store.apply)
        self.store.link_seeded()
        hashes = HashCache()
        self.attestor = Attestor(epoch="e1", tier="observe+", sensor=self.sensor, store=self.store, hashes=hashes)
        self._hashes = hashes
        self.families = []

    async def enroll(self, owner_uid):
        """Make ``agent`` the agent of this user, and of nobody else."""
        data = Path(self.agent).read_bytes()
        binary = EnrolledBinary(self.agent, hashlib.sha256(data).hexdigest(), len(data))
        enrollment = Enrollment("agent", owner_uid, "me", (binary,), RoleRule(("agent",)), (), (), 0)
        table, problems = await read_enrolled_files([enrollment], self.sensor, self._hashes)
        if problems:
            raise AssertionError(problems)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table

    def start(self, *words, program=None, uid=None):
        """Start the agent (or another program) with these words, as this user."""
        options = {} if uid is None else {"user": uid, "group": uid, "extra_groups": ()}
        family = Family(self, [program or self.agent, *words], cwd="/", **options)
        self.families.append(family)
        return family

    async def attest(self, speaker, known=None):
        """Attest a process that spoke; losing events here would be another test's subject."""
        verdict = await self.attestor.attest(speaker.pidfd, known)
        if self.sensor.losses().total:
            raise AssertionError(self.sensor.losses())
        return verdict

    def origin(self):
        """Return the processes from this one up to the origin, as recorded."""
        steps, gap = self.attestor.describe(os.getpid())
        if gap:
            raise AssertionError(gap)
        return processes(steps)

    async def expect(self, speakers, *, agent=0):
        """Attest the last of them; its lineage must be all of them in their order, and then this process's.

        Args:
            speakers: from the oldest to the one that is attested.
            agent: which of them is the principal; None: there is none.
        """
        evidence = await self.attest(speakers[-1])
        if not isinstance(evidence, Evidence):
            raise TypeError(evidence)
        family = tuple(dict.fromkeys(each.record.proc_id for each in reversed(speakers)))
        assert processes(evidence.steps) == (*family, *self.origin())
        if agent is None:
            assert evidence.principal is None
        else:
            proc_id = speakers[agent].record.proc_id
            assert (evidence.principal.proc_id, evidence.principal.depth) == (proc_id, family.index(proc_id))
        return evidence

    async def ended(self, speaker):
        """Wait until a process is gone; its end was told before that."""
        select.select([speaker.pidfd], [], [])
        while not self.sensor.consume():  # another CPU is about to commit something
            await asyncio.sleep(0.001)

    def close(self):
        """End all families; detach; delete."""
        for family in self.families:
            family.close()
        self.sensor.close()
        shutil.rmtree(self.folder)


def processes(steps):
    """Return the processes of a lineage, the caller first."""
    return tuple(dict.fromkeys(step.proc_id for step in steps))


def programs(evidence, count):
    """Return the names under which the first images of a lineage were executed, the caller's first."""
    return [step.image.argv0 for step in evidence.steps[:count]]
