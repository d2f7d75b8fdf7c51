"""Processes of the agent's own user that try to keep it out: real processes, real sockets, and the agent is served."""

import asyncio
import contextlib
import json
import socket
import sys

import aiohttp
import pytest

from agent_broker.inject import connections
from agent_broker.transport import agent_socket
from agent_broker.transport.frame import ShimAnswer, decode_answer
from agent_broker.transport.limits import Limits
from agent_broker.vault.secret import Secret
from tests.fakes.agent_socket import REQUEST, Recorder, answer_to, asked_by_a_new_process, serving
from tests.fakes.inject import InjectWorld
from tests.fakes.mock_provider import MockProvider
from tests.fakes.seqpacket import connected

WHOLE = {"model": "m", "messages": []}
PRELUDE = """
import ctypes, os, socket, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: it ends with the test, however that ends
path, kind, request = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
def connect():
    if path.isdigit():
        return socket.create_connection(("127.0.0.1", int(path)))
    end = socket.socket(socket.AF_UNIX, kind)
    end.connect(path)
    return end
def ask(what=request):
    try:
        with connect() as end:
            end.sendall(what)
            return end.recv(65536)
    except OSError:
        return b""
def up():
    print("up", flush=True)
"""
FLOODS = {
    "asks": "ask(); up()\nwhile True: ask()",
    "connects": "connect().close(); up()\nwhile True:\n  try: connect().close()\n  except OSError: pass",
    "asks by new processes": (
        "up()\nwhile True:\n  pid = os.fork()\n  if pid == 0: ask(); os._exit(0)\n  os.waitpid(pid, 0)"
    ),
    "holds half requests": (
        "held = []\n"
        "for n in range(200):\n"
        "  try: held.append(connect()); held[-1].send(request[:len(request) // 2])\n"
        "  except OSError: pass\n"
        "up(); sys.stdin.read()"
    ),
    "holds connections": "held = [connect() for _ in range(200)]\nup(); sys.stdin.read()",
    "pipelines and never reads": (
        "end = connect(); end.setblocking(False); sent = 0\n"
        "try:\n  while sent < 10000: end.send(request); sent += 1\nexcept OSError: pass\n"
        "up(); sys.stdin.read()"
    ),
    "probes and never reads": (
        "end = connect(); end.settimeout(1); sent = 0\n"
        "try:\n  while sent < 20000: end.send(b'GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n'); sent += 1\n"
        "except OSError: pass\n"
        "up(); sys.stdin.read()"
    ),
}


async def attacker(script, place, kind, request):
    command = (sys.executable, "-c", PRELUDE + script, str(place), str(int(kind)), request.hex())
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, start_new_session=True
    )


@contextlib.asynccontextmanager
async def flooding(script, place, kind, request, processes=1):
    """Run attackers until the block ends; each has begun when it is entered."""
    attackers = [await attacker(script, place, kind, request) for _ in range(processes)]
    try:
        for each in attackers:
            assert await each.stdout.readline() == b"up\n"
        yield
    finally:
        for each in attackers:
            each.kill()
            await each.communicate()


@pytest.fixture
async def world(tmp_path):
    async with MockProvider() as provider, InjectWorld(provider).serving(tmp_path) as served:
        yield served


@pytest.fixture(params=["tcp", "unix"])
def place(world, request):
    return world.unix_path if request.param == "unix" else world.base_url.rpartition(":")[2]


def request_of(world) -> bytes:
    head = f"POST /v1/messages HTTP/1.1\r\nHost: h\r\nx-api-key: {world.phantom}\r\nContent-Length: 2\r\n\r\n"
    return head.encode() + b"{}"


def session_of(world, place):
    connector = None if place.isdigit() else aiohttp.UnixConnector(world.unix_path)
    return aiohttp.ClientSession("http://broker.invalid" if connector else world.base_url, connector=connector)


@pytest.mark.parametrize("how", FLOODS)
async def test_a_kept_connection_of_the_agent_is_served_during_a_flood(world, place, how):
    async with session_of(world, place) as session:
        async with session.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
            assert response.status == 200
            await response.read()
        async with flooding(FLOODS[how], place, socket.SOCK_STREAM, request_of(world)):
            for _ in range(5):
                async with session.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
                    assert response.status == 200
                    await response.read()
        while len(world.issuer.asks) != world.issuer.given + len(world.issuer.refusals):  # a killed one's is on its way
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", FLOODS)
async def test_a_new_connection_of_the_agent_is_served_during_a_flood(world, how):
    """On the unix socket, where it is known which process connects before it is asked."""
    async with flooding(FLOODS[how], world.unix_path, socket.SOCK_STREAM, request_of(world), processes=3):
        for _ in range(3):
            assert await asked_once_or_again(world) == 200


async def asked_once_or_again(world) -> int:
    """While the kernel's queue of a unix socket is full, a connect fails at once; clients try again."""
    while True:
        session = session_of(world, world.unix_path)
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with session, session.post("/v1/messages", json=WHOLE, headers=world.bearer) as response:
                return response.status


async def test_what_a_flood_holds_is_bounded(world, place):
    flood = flooding(FLOODS["holds half requests"], place, socket.SOCK_STREAM, request_of(world), processes=3)
    async with flood:
        while world.connections > 32:  # those that made room are on their way out
            await asyncio.sleep(0.01)
    while world.connections:
        await asyncio.sleep(0.01)


REPEATS = """
for _ in range(100):
    answer = ask()
    if b"429" in answer.partition(b"\\r\\n")[0]:
        break
up(); print(answer.partition(b"\\r\\n\\r\\n")[2].decode(), flush=True)
sys.stdin.read()
"""


async def test_a_process_that_is_refused_again_and_again_is_told_so_and_nobody_is_asked_about_it(world):
    thief = await attacker(REPEATS, world.unix_path, socket.SOCK_STREAM, request_of(world))
    assert await thief.stdout.readline() == b"up\n"
    error = json.loads(await thief.stdout.readline())["error"]
    thief.kill()
    await thief.communicate()
    assert error["type"] == "rate_limit_error"
    assert "was refused too often" in error["message"]
    assert 1 <= len(world.issuer.refusals) < 10
    assert world.provider.seen == []


async def test_a_connection_that_never_finishes_its_first_request_is_closed(world, place, monkeypatch):
    monkeypatch.setattr(connections, "STRANGER_IDLE_S", 0.05)
    async with flooding(FLOODS["holds half requests"], place, socket.SOCK_STREAM, request_of(world)):
        while world.connections:
            await asyncio.sleep(0.01)


async def test_a_connection_without_a_grant_is_closed_after_a_few_probes(world):
    reader, writer = await asyncio.open_unix_connection(world.unix_path)
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 20)
    received = await reader.read()
    writer.close()
    assert received.count(b"HTTP/1.1 200") == connections.STRANGER_REQUESTS


AGENT_FLOODS = {name: FLOODS[name] for name in ("asks", "connects", "asks by new processes")} | {
    "holds connections": "held = []\nfor _ in range(200):\n  held.append(connect())\nup(); sys.stdin.read()"
}


@pytest.mark.parametrize("how", AGENT_FLOODS)
@pytest.mark.parametrize("processes", [1, 20])
async def test_a_helper_gets_its_answer_from_agent_sock_during_a_flood(tmp_path, how, processes):
    tmp_path.chmod(0o755)
    async with (
        serving(tmp_path, Recorder()) as server,
        flooding(AGENT_FLOODS[how], server.path, socket.SOCK_SEQPACKET, REQUEST, processes),
    ):
        for _ in range(5):
            assert decode_answer(await asked_by_a_new_process(server.path)).exit_code == 0


async def test_a_process_that_asks_too_often_hears_so_in_a_sentence_until_it_was_served(tmp_path):
    tmp_path.chmod(0o755)
    handle = Recorder()
    async with serving(tmp_path, handle) as server:
        answers = [await answer_to(server.path) for _ in range(60)]
    turned_away = [answer.stderr for answer in answers if answer.exit_code != 0]
    assert turned_away
    assert all(b"asks too often" in each for each in turned_away)
    assert len(handle.seen) == 60 - len(turned_away)
    handle.answer = None
    served = Served()
    async with serving(tmp_path, served) as server:
        for _ in range(100):
            assert (await answer_to(server.path)).exit_code == 0


async def test_who_hangs_up_without_a_word_is_not_looked_up(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    looked_up = []
    real = agent_socket.open_connector
    monkeypatch.setattr(agent_socket, "open_connector", lambda *what: [real(*what), looked_up.append(what)][0])
    async with serving(tmp_path, Recorder()) as server:
        for _ in range(60):  # before the loop has its turn
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
                guest.connect(str(server.path))
        answer = await answer_to(server.path)
    assert answer.exit_code == 0
    assert len(looked_up) == 1


class Served:
    """A handler that gives a secret away."""

    async def __call__(self, _request, _peer):
        return ShimAnswer(0, Secret(b"real"))


async def test_one_process_does_not_take_the_places_of_its_users_others(tmp_path):
    tmp_path.chmod(0o755)
    script = "held = []\nfor _ in range(30):\n  held.append(connect())\nup(); sys.stdin.read()"
    async with (
        serving(tmp_path, Recorder(), limits=Limits(idle_s=30)) as server,
        flooding(script, server.path, socket.SOCK_SEQPACKET, REQUEST),
    ):
        with connected(server.path) as patient:
            while len(server._places) != 9:
                await asyncio.sleep(0.01)
            patient.send(REQUEST)
            assert decode_answer(await asyncio.to_thread(patient.recv, 70000)).exit_code == 0
