"""What a process of the same user can try with a stolen phantom, done by real processes on real connections."""

import asyncio
import sys

import pytest

from tests.fakes.inject import InjectWorld
from tests.fakes.mock_provider import MockProvider

PRELUDE = """
import os, socket, sys, time
path, request = sys.argv[1], sys.argv[2].encode().decode("unicode_escape").encode()
def connect():
    if path.isdigit():
        return socket.create_connection(("127.0.0.1", int(path)))
    end = socket.socket(socket.AF_UNIX)
    end.connect(path)
    return end
def status(end):
    return end.recv(65536).split(b" ", 2)[1].decode()
def tell(text):
    print(text, flush=True)
def told():
    return sys.stdin.readline().strip()
"""


@pytest.fixture
async def world(tmp_path):
    async with MockProvider() as provider, InjectWorld(provider).serving(tmp_path) as served:
        served.monitor.agents = set()
        yield served


@pytest.fixture(params=["tcp", "unix"])
def channel(world, request):
    return world.unix_path if request.param == "unix" else world.base_url.rpartition(":")[2]


class Actor:
    """A process that runs a few lines after the prelude."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid

    async def hear(self):
        return (await self._process.stdout.readline()).decode().strip()

    async def say(self, text="go"):
        self._process.stdin.write(f"{text}\n".encode())
        await self._process.stdin.drain()

    async def end(self):
        self._process.stdin.close()  # its children wait there
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


@pytest.fixture
async def start(world, channel):
    actors = []

    async def start_one(script):
        request = (
            f"POST /v1/messages HTTP/1.1\r\nHost: h\r\nx-api-key: {world.phantom}\r\nContent-Length: 2\r\n\r\n{{}}"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PRELUDE + script, channel, request.encode("unicode_escape").decode(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        actors.append(Actor(process))
        return actors[-1]

    yield start_one
    for actor in actors:
        await actor.end()


async def test_the_agent_itself_is_served(world, start):
    agent = await start("told(); end = connect(); end.send(request); tell(status(end)); told()")
    world.monitor.agents.add(agent.pid)
    await agent.say()
    assert await agent.hear() == "200"
    assert len(world.provider.seen) == 1


async def test_another_process_of_the_user_is_refused(world, start):
    agent = await start("told()")
    world.monitor.agents.add(agent.pid)
    thief = await start("end = connect(); end.send(request); tell(status(end))")
    assert await thief.hear() == "403"
    assert world.provider.seen == []
    assert [refused.rule for refused in world.issuer.refusals] == ["principal"]


async def test_a_child_that_inherited_the_agents_connection_is_refused(world, start):
    agent = await start("told(); end = connect()\nif os.fork() == 0:\n  end.send(request); tell(status(end))\ntold()")
    world.monitor.agents.add(agent.pid)
    await agent.say()
    assert await agent.hear() == "403"
    assert "2 processes" in world.issuer.refusals[0].message
    assert world.provider.seen == []


async def test_a_child_that_is_left_alone_with_the_connection_is_refused(world, start):
    agent = await start(
        "told(); end = connect()\n"
        "if os.fork() == 0:\n  told(); end.send(request); tell(status(end)); os._exit(0)\n"
        "end.close(); tell('closed'); os.wait()"
    )
    world.monitor.agents.add(agent.pid)
    await agent.say()
    assert await agent.hear() == "closed"
    await agent.say()
    assert await agent.hear() == "403"
    assert world.provider.seen == []


async def test_a_unix_connection_that_was_passed_to_the_agent_is_refused(world, start, channel, tmp_path):
    """TCP keeps no opener: there, a passed socket is served, to the agent alone; no agent takes one."""
    handover = tmp_path / "handover"
    agent = await start(
        f"listener = socket.socket(socket.AF_UNIX); listener.bind({str(handover)!r}); listener.listen(); tell('up')\n"
        "taken = socket.recv_fds(listener.accept()[0], 1, 1)[1][0]; told()\n"
        "end = socket.socket(fileno=taken); end.send(request); tell(status(end)); told()"
    )
    world.monitor.agents.add(agent.pid)
    assert await agent.hear() == "up"
    thief = await start(
        f"to = socket.socket(socket.AF_UNIX); to.connect({str(handover)!r}); end = connect()\n"
        "socket.send_fds(to, [b'x'], [end.fileno()]); end.close(); tell('passed'); told()"
    )
    assert await thief.hear() == "passed"
    await agent.say()
    assert await agent.hear() == ("200" if channel.isdigit() else "403")
    assert [refused.message.partition("opened by ")[2] for refused in world.issuer.refusals] == (
        [] if channel.isdigit() else ["another process than the one that holds it"]
    )


async def test_a_request_written_before_the_agent_was_executed_over_the_writer_is_refused(world, start):
    thief = await start(
        "end = connect(); told(); end.send(request); end.set_inheritable(True)\n"
        "tell(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 1)\n"
        "os.execv(sys.executable, [sys.executable, '-c', 'import sys; sys.stdin.readline()'])"
    )
    world.monitor.agents.add(thief.pid)
    world.issuer.gate.clear()
    world.monitor.exec_ns[thief.pid] = 1 << 62  # as if it had executed the agent already
    await thief.say()
    assert int(await thief.hear())
    world.issuer.gate.set()
    while not (world.issuer.refusals or world.issuer.given):
        await asyncio.sleep(0.005)
    assert ["older than the program" in refused.message for refused in world.issuer.refusals] == [True]
    assert world.provider.seen == []


async def test_a_thief_that_hangs_up_is_recorded_all_the_same(world, start):
    world.issuer.gate.clear()
    thief = await start("end = connect(); end.send(request); told(); end.close(); tell('gone'); told()")
    while not world.issuer.asks:
        await asyncio.sleep(0.005)
    await thief.say()
    assert await thief.hear() == "gone"
    world.issuer.gate.set()
    while not (world.issuer.refusals or world.issuer.given):
        await asyncio.sleep(0.005)
    assert world.provider.seen == []
