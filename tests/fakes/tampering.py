"""An enrolled agent of an ordinary user, programs that take hold of it, and what the kernel side and the attestor say.

The agent is victim.c, which does what it is told; the programs are tamper.c and tamper32.c. Everything is real.
"""

import asyncio
import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Evidence
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from agent_broker.lineage.store import Store
from tests.fakes.backends import BACKENDS

USER = 1500
_HERE = Path(__file__).parent
_CC = ("cc", "-O2", "-Wall", "-Wextra", "-Werror")
_FLAGS_32 = ("-m32", "-nostdlib", "-static", "-fno-stack-protector", "-fno-pie", "-no-pie")
_ANSWERS_S = 60


class Victim:
    """One process of victim.c."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.address = process.stdout.readline().strip()

    def do(self, line):
        """Let it do something, return the number that it answers."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def become(self, path=""):
        """Let it execute another program (or itself again) in its place."""
        self.process.stdin.write(f"exec {path}\n" if path else "exec\n")
        self.process.stdin.flush()
        self.address = self.process.stdout.readline().strip()

    @property
    def byte(self):
        """The byte that the others write to."""
        return chr(self.do("byte"))


class World:
    """The kernel side, an attestor, and a folder that every user can enter."""

    def __init__(self, backend="core"):
        self.folder = Path(tempfile.mkdtemp(prefix="tampering-"))
        self.folder.chmod(0o755)
        self.agent = self.folder / "agent"
        self.others = self.folder / "not-enrolled"
        subprocess.run([*_CC, "-no-pie", "-o", self.agent, _HERE / "victim.c"], check=True)
        subprocess.run([*_CC, "-o", self.folder / "tamper", _HERE / "tamper.c"], check=True)
        shutil.copy(self.agent, self.others)
        os.chown(self.others, USER, USER)
        self.store = Store(scan_strings, str)
        self.events = []
        self.store.on_taint = self.events.append
        self.sensor = BACKENDS[backend](self.store.apply)
        self.store.link_seeded()
        self.hashes = HashCache()
        self.attestor = Attestor(epoch="e1", tier="observe+", sensor=self.sensor, store=self.store, hashes=self.hashes)
        self._started = []

    def close(self):
        """End everything."""
        self.end_all()
        self.sensor.close()
        shutil.rmtree(self.folder)

    def end_all(self):
        """End all processes."""
        while self._started:
            process = self._started.pop()
            process.kill()
            process.communicate()

    async def enroll(self):
        """Enrol the agent for the user."""
        data = self.agent.read_bytes()
        binary = EnrolledBinary(str(self.agent), hashlib.sha256(data).hexdigest(), len(data))
        enrollment = Enrollment("agent", USER, "user", (binary,), RoleRule(("agent",)), (), (), 0)
        table, problems = await read_enrolled_files([enrollment], self.sensor, self.hashes)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table
        return problems

    def start(self, program=None, uid=USER):
        """Start a victim; it has answered, so its exec is over."""
        return Victim(self._popen(uid, str(program or self.agent)))

    def tamper(self, how, victim, uid=USER, program="tamper"):
        """Return "done", or the errno with which the kernel refused; and the pid of who tried."""
        process = self._popen(uid, str(self.folder / program), how, str(victim.pid), victim.address)
        output, _ = process.communicate(timeout=_ANSWERS_S)
        said = output.strip()
        return (said if said == "done" else int(said)), process.pid

    def build_tamper32(self):
        """Build the 32-bit program."""
        command = [*_CC, *_FLAGS_32, "-o", self.folder / "tamper32", _HERE / "tamper32.c"]
        subprocess.run(command, check=True)

    def library(self, owner=USER):
        """Make a file with code in it, of some user."""
        fd, path = tempfile.mkstemp(dir=self.folder, suffix=".so")
        os.write(fd, b"\xc3" * 4096)
        os.close(fd)
        os.chown(path, owner, owner)
        Path(path).chmod(0o755)
        return path

    def allow_part(self, path):
        """Register a file as part of an agent."""
        with Path(path).open("rb") as file:
            facts = self.sensor.own_file(file.fileno()).file
        self.sensor.register_part(facts.dev, facts.ino)

    def record(self, pid):
        """Return the kernel's record of a process."""
        with _pidfd(pid) as pidfd:
            return self.sensor.task_record(pidfd)

    def taints(self, victim):
        """Return the bits in the kernel's record, and in the events about the image that it runs now."""
        record = self.record(victim.pid)
        told = [each for each in self.told() if (each.proc_id, each.exec_id) == (record.proc_id, record.exec_id)]
        return record.taints, functools.reduce(int.__or__, (each.taint for each in told), 0)

    def told(self):
        """Return all Taint events until now."""
        self.sensor.consume()
        return self.events

    async def attest(self, pid):
        """Return evidence of a process."""
        with _pidfd(pid) as pidfd:
            for _ in range(1000):
                verdict = await self.attestor.attest(pidfd)
                if isinstance(verdict, Evidence):
                    break
                await asyncio.sleep(0.001)
            return verdict

    def confirm(self, pid, known):
        """Return what a look at the kernel's record of a process says of some evidence."""
        with _pidfd(pid) as pidfd:
            return self.attestor.confirm(pidfd, known)

    def _popen(self, uid, *argv):
        process = subprocess.Popen(
            argv, user=uid, group=uid, extra_groups=(), cwd="/", env={"HOME": "/"}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._started.append(process)
        return process


@contextlib.contextmanager
def _pidfd(pid):
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)
