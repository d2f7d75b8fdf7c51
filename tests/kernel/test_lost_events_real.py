"""A ring that is far too small and a storm of processes: every answer about an agent is right, or Unknown for good.

The agent is a copy of the shell, enrolled, so that it starts tools and becomes other programs. What is right is known
from how each process was started; a process says a line when it runs what it should run.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from agent_broker.lineage.store import Store
from tests.fakes.backends import BACKENDS

pytestmark = pytest.mark.kernel

SHELL = "/bin/sh"
STORM_PROCESSES = 1500
MOST_TO_FILL = 1000
ROUNDS = 9
SAYS_ITS_PID = "echo $$; read x"
SCRIPTS = {
    "agent": SAYS_ITS_PID,
    "tool": f"{SHELL} -c '{SAYS_ITS_PID}'; :",
    "became another": f"exec {SHELL} -c '{SAYS_ITS_PID}'",
    "copy": SAYS_ITS_PID,
}


class Subject:
    """One process that is asked about, and what it is."""

    def __init__(self, kind, program):
        self.kind = kind
        self.process = subprocess.Popen(
            [program, "-c", SCRIPTS[kind]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"HOME": "/"}
        )
        self.pidfd = os.pidfd_open(int(self.process.stdout.readline()))

    def close(self):
        os.close(self.pidfd)
        self.process.kill()
        self.process.communicate()  # its tool reads the end of the same pipe, and ends


class World:
    def __init__(self, backend, folder, ring_bytes):
        self.store = Store(scan_strings, str)
        self.sensor = BACKENDS[backend](self.store.apply, ring_bytes=ring_bytes)
        self.store.link_seeded()
        self.hashes = HashCache()
        self.attestor = Attestor(epoch="e1", tier="test", sensor=self.sensor, store=self.store, hashes=self.hashes)
        self.agent, self.copy = folder / "agent", folder / "elsewhere/agent"
        self.copy.parent.mkdir()
        for path in (self.agent, self.copy):
            shutil.copy(Path(SHELL).resolve(), path)
        self.subjects = []
        self.storm = None

    async def enroll(self):
        data = self.agent.read_bytes()
        binary = EnrolledBinary(str(self.agent), hashlib.sha256(data).hexdigest(), len(data))
        enrollment = Enrollment("agent", os.getuid(), "me", (binary,), RoleRule(("agent",)), (), (), 0)
        table, problems = await read_enrolled_files([enrollment], self.sensor, self.hashes)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table
        assert problems == ()

    def start_storm(self):
        loop = f"i=0; while [ $i -lt {STORM_PROCESSES} ]; do /bin/true; i=$((i+1)); done"
        self.storm = subprocess.Popen([SHELL, "-c", loop])

    def fill_the_ring(self):
        """Until an exec is lost nobody reads; then there is no room for another one until somebody does."""
        before = self.sensor.losses().exec
        for _ in range(MOST_TO_FILL):
            if self.sensor.losses().exec > before:
                return
            subprocess.run(["/bin/true"], check=True)
        pytest.fail("no loss could be forced")

    def start(self):
        started = [Subject(kind, str(self.copy if kind == "copy" else self.agent)) for kind in SCRIPTS]
        self.subjects += started
        return started

    async def ask(self, subject):
        """The verdict, which must be right, and must stay so when it is asked for again at once."""
        verdict = await self.attestor.attest(subject.pidfd)
        if isinstance(verdict, Unknown):
            return verdict
        self._must_be_right(subject, verdict)
        again = await self.attestor.attest(subject.pidfd, verdict.freshness)
        assert isinstance(again, Unchanged | Evidence)
        return verdict

    def _must_be_right(self, subject, verdict):
        record = self.sensor.task_record(subject.pidfd)
        assert (verdict.freshness.proc_id, verdict.freshness.exec_id) == (record.proc_id, record.exec_id)
        principal = verdict.principal
        if subject.kind in {"copy", "became another"}:
            assert principal is None
            return
        assert principal.agent == "agent"
        assert principal.is_caller == (subject.kind == "agent")
        assert principal.depth == (subject.kind == "tool")
        if subject.kind == "tool":
            agent = self.record_of(subject.process.pid)
            assert (principal.proc_id, principal.exec_id) == (agent.proc_id, agent.exec_id)

    def record_of(self, pid):
        pidfd = os.pidfd_open(pid)
        try:
            return self.sensor.task_record(pidfd)
        finally:
            os.close(pidfd)

    def close(self):
        for subject in self.subjects:
            subject.close()
        if self.storm is not None:
            self.storm.kill()
            self.storm.wait()
        self.sensor.close()


PAGE = 4096
RINGS = [("core", PAGE), ("core", 32 * PAGE), ("bcc", 32 * PAGE)]


@pytest.fixture(params=RINGS, ids=[f"{backend}-{size // PAGE}" for backend, size in RINGS])
async def world(request, tmp_path):
    """A page does not even hold one image's strings, nor the machine's processes at the start."""
    backend, ring_bytes = request.param
    world = World(backend, tmp_path, ring_bytes)
    world.holds_its_seed = ring_bytes > PAGE
    try:
        await world.enroll()
        yield world
    finally:
        world.close()


async def test_every_answer_in_a_storm_is_right_or_unknown_for_good(world):
    world.start_storm()
    seen, lost = [], []
    for number in range(ROUNDS):
        full = number % 3 == 1
        if full:
            world.fill_the_ring()
        started = world.start()
        verdicts = [await world.ask(subject) for subject in started]
        seen += verdicts
        if full:
            assert [type(verdict) for verdict in verdicts] == [Unknown] * len(started)
            lost += started
    world.storm.wait()

    assert world.sensor.losses().total > 0
    if world.holds_its_seed:
        assert any(isinstance(verdict, Evidence) for verdict in seen)
    for _ in range(2):  # in peace, with the ring drained and new processes that lose nothing
        for subject in world.subjects:
            verdict = await world.ask(subject)
            assert isinstance(verdict, Unknown) or subject not in lost
        world.start()


async def test_an_exec_that_was_lost_is_never_bridged(world):
    """An agent becomes another program while the ring is full, and one more in peace: neither is guessed at."""
    last = SAYS_ITS_PID
    second = f'{last}; exec {SHELL} -c "{last}"'
    process = subprocess.Popen(
        [str(world.agent), "-c", f"{last}; exec {SHELL} -c '{second}'"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"HOME": "/"},
    )  # fmt: skip
    pidfd = os.pidfd_open(int(process.stdout.readline()))

    def become_the_next():
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()

    try:
        before = await world.attestor.attest(pidfd)
        known = before.freshness if isinstance(before, Evidence) else None
        assert known is not None or not world.holds_its_seed
        assert known is None or before.principal.is_caller
        world.fill_the_ring()
        assert known is None or isinstance(world.attestor.confirm(pidfd, known), Unchanged)  # nothing of it was lost
        become_the_next()
        assert isinstance(await world.attestor.attest(pidfd, known), Unknown)
        assert known is None or isinstance(await world.attestor.recheck(known), Unknown)
        assert known is None or isinstance(world.attestor.confirm(pidfd, known), Unknown)
        become_the_next()
        assert isinstance(await world.attestor.attest(pidfd, known), Unknown)
    finally:
        os.close(pidfd)
        process.kill()
        process.communicate()
