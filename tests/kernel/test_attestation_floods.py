"""Real processes that flood attestations by forking: however they hide their children, they wait behind themselves.

Through the broker's own client and the monitor's own service. The monitor's first answers are held back until all have
asked, so that the order of the others is that of the turns.
"""

import asyncio
import contextlib
import os
import subprocess
import sys

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.identity.evidence import Evidence
from agent_broker.monitor import turns
from agent_broker.monitor.client import MonitorClient
from agent_broker.monitor.listener import bind_monitor_socket
from agent_broker.monitor.messages import MonitorStatus
from agent_broker.monitor.service import Service
from agent_broker.monitor.spool import Spool
from agent_broker.transport.frame import ShimAnswer, decode_answer
from agent_broker.transport.limits import Limits
from tests.fakes.agent_socket import REQUEST, asked_by_a_new_process, serving
from tests.kernel.test_attest_real import World

pytestmark = pytest.mark.kernel

FLOOD = 30
WAYS = {
    "forks": "child(wait)",
    "forks twice, and the one between ends": "child(lambda: child(wait))",
    "begins a new session": "child(lambda: (os.setsid(), wait()))",
    "executes itself anew": "child(anew)",
    "all of it, three times": "child(lambda: (os.setsid(), child(lambda: (os.setsid(), child(anew)))))",
}
_FLOODER = """
import os, sys
SAYS = "import os, sys; os.write(1, b'%d\\\\n' % os.getpid()); sys.stdin.read()"
def wait():
    os.write(1, b"%d\\n" % os.getpid())
    sys.stdin.read()
def anew():
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", SAYS])
def child(work):
    if os.fork() == 0:
        work()
        os._exit(0)
for _ in range(int(sys.argv[1])):
    {way}
sys.stdin.read()
"""
_HIDING = """
import os, socket, sys
def ask():
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.connect(sys.argv[1])
    try:
        end.send(bytes.fromhex(sys.argv[2]))
        end.recv(70000)
    except OSError:
        pass  # turned away before it had asked
    os.write(1, b"heard\\n")
for _ in range(int(sys.argv[3])):
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            ask()
        os._exit(0)
    os.waitpid(between, 0)
sys.stdin.read()
"""


class Gate:
    """The attestor, which answers nobody until it is opened, and then notes in which order it answers."""

    def __init__(self, attestor):
        self._attestor = attestor
        self.is_open = asyncio.Event()
        self.asked = []

    def __getattr__(self, name):
        return getattr(self._attestor, name)

    def attest_now(self, _pidfd, _known=None):
        return None

    async def attest(self, pidfd, known=None):
        self.asked.append(os.fstat(pidfd).st_ino)
        await self.is_open.wait()
        return await self._attestor.attest(pidfd, known)


class Monitor:
    def __init__(self, folder, attestor):
        self.path = folder / "monitor.sock"
        self.spool = Spool(folder / "spool")

        async def reload():
            return 0, 0, ()

        self.service = Service(
            listener=bind_monitor_socket(self.path, os.getgid()), broker_uid=os.getuid(), attestor=attestor,
            spool=self.spool, reload=reload, status=lambda n: MonitorStatus(n, "e1", "observe+", "0", *range(9), ()),
        )  # fmt: skip
        self.service.start()

    async def close(self):
        await self.service.close()
        self.spool.close()


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    assert await world.enroll() == ()
    world.gate = Gate(world.attestor)
    monitor = Monitor(tmp_path, world.gate)
    yield world
    await monitor.close()
    world.close()


@pytest.fixture(params=WAYS)
async def flood(request):
    """pidfds of a flooder's children, and its own process."""
    pipe = asyncio.subprocess.PIPE
    flooder = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _FLOODER.format(way=WAYS[request.param]), str(FLOOD), stdin=pipe, stdout=pipe
    )
    pidfds = [os.pidfd_open(int(await flooder.stdout.readline())) for _ in range(FLOOD)]
    yield pidfds
    for pidfd in pidfds:
        os.close(pidfd)
    await flooder.communicate(b"")  # they all wait for the end of it


async def test_the_agent_is_heard_before_what_a_flooder_forks(world, flood, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "AT_ONCE", 1)
    monkeypatch.setattr(turns, "LONG_S", 3600)
    agent = os.pidfd_open(world.start(str(world.agent), "1000", stdin=subprocess.DEVNULL).pid)
    async with MonitorClient(tmp_path / "monitor.sock") as client:
        client._turns = turns.AskingTurns(1)
        asks = []
        for pidfd in (*flood, agent):
            asks.append(asyncio.create_task(client.attest(pidfd)))
            while client._turns._turns.waiting + len(world.gate.asked) < len(asks):
                await asyncio.sleep(0)
        world.gate.is_open.set()
        verdicts = await asyncio.gather(*asks)
    place = world.gate.asked.index(os.fstat(agent).st_ino)
    os.close(agent)

    assert place == 2  # one of them had its turn already, and one came before
    assert len(world.gate.asked) == FLOOD + 1
    assert all(each.steps for each in verdicts)


@contextlib.asynccontextmanager
async def hidden_askers(path, count):
    """Let so many processes, each forked twice and in a session of its own, connect and ask; count who is answered."""
    pipe = asyncio.subprocess.PIPE
    flooder = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _HIDING, path, REQUEST.hex(), str(count), stdin=pipe, stdout=pipe
    )
    heard = []
    reading = asyncio.create_task(read_lines(flooder.stdout, heard))
    yield heard
    flooder.stdin.close()
    await reading
    await flooder.wait()


async def read_lines(stream, lines):
    while line := await stream.readline():
        lines.append(line)


async def until(holds):
    while not holds():
        await asyncio.sleep(0.01)


async def test_who_forks_for_each_question_leaves_places_to_its_users_others(world, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "LONG_S", 3600)
    tmp_path.chmod(0o755)
    limits = Limits(answer_s=3600)
    askers = 3 * limits.per_uid
    async with MonitorClient(tmp_path / "monitor.sock") as client:

        async def handle(_request, peer):
            if not isinstance(await client.attest(peer.pidfd), Evidence):
                raise UnavailableError("not heard", next_step="try again")
            return ShimAnswer(0, b"heard")

        async with serving(tmp_path, handle, limits=limits) as server, hidden_askers(str(server.path), askers) as heard:
            await until(lambda: len(heard) + len(server._places) == askers)
            before = len(heard)
            newcomer = asyncio.create_task(asked_by_a_new_process(server.path))
            await until(lambda: len(heard) > before or newcomer.done())  # one of them had to go, so it waits
            world.gate.is_open.set()
            answer = decode_answer(await newcomer)

    assert (answer.exit_code, answer.stdout) == (0, b"heard")


async def test_the_recorded_parents_are_those_of_the_lineage(world, flood):
    for pidfd in flood:
        verdict = await world.attestor.attest(pidfd)
        recorded = tuple(dict.fromkeys(step.proc_id for step in verdict.steps))

        assert world.attestor.parents_of(pidfd) == recorded
        assert len(recorded) > 2
