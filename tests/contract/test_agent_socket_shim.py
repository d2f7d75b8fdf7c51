"""The C side against the Python side: the real shim asks the real socket, in every way to name it."""

import asyncio
import contextlib
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent_broker.errors import RefusedError
from agent_broker.ids import AgentName
from agent_broker.transport.agent_socket import AgentSocket
from agent_broker.transport.frame import ShimAnswer
from agent_broker.transport.keyrings import BACKEND
from agent_broker.transport.protocols import Protocols
from agent_broker.transport.tool_protocols import PROTOCOLS as TOOLS
from tests.fakes import shim
from tests.fakes.agent_socket import METHODS


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def method(request):
    return request.param


@contextlib.asynccontextmanager
async def broker(root, handle, method=None):
    folder = root / "run/agent-broker"
    folder.mkdir(parents=True, exist_ok=True)
    server = AgentSocket(folder / "agent.sock", handle, method=method)
    server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(*arguments, **how):
    process = await asyncio.to_thread(shim.start, *arguments, **how)  # a shim waits for 2 s, from its own start
    return process.pid, *await asyncio.to_thread(shim.finish, process)


async def test_the_shim_is_known_and_answered(tmp_path, method):
    seen = []

    async def handle(request, peer):
        seen.append((request.protocol, request.argv, peer.uid, peer.pid, peer.is_alive()))
        return ShimAnswer(7, b"out", b"err")

    async with broker(tmp_path, handle, method):
        pid, *result = await ask("get", "ключ", root=tmp_path)
    assert result == [7, b"out", b"err"]
    assert seen == [("get", ("ключ",), os.geteuid(), pid, True)]


async def test_an_argument_that_is_no_text_is_refused_by_position(tmp_path, method):
    async with broker(tmp_path, None, method):
        _, code, out, err = await ask("get", b"CANARY\xff", root=tmp_path)
    assert (code, out) == (2, b"")
    assert b"not UTF-8 at byte 19" in err
    assert b"CANARY" not in err


async def test_sixty_four_at_once(tmp_path, method):
    async def handle(request, peer):
        await asyncio.sleep(0)
        return ShimAnswer(0, f"{request.argv[0]} {peer.pid}".encode())

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
    shim.compiled()
    async with broker(tmp_path, handle, method):
        answers = await asyncio.gather(*(ask("get", str(n), root=tmp_path) for n in range(64)))
    assert [out for _, _, out, _ in answers] == [f"{n} {pid}".encode() for n, (pid, *_) in enumerate(answers)]


class OneUser:
    """Enrolments of the user who runs the tests; nobody is ever given a secret."""

    def phantom_for(self, agent, uid, _account):
        return "phantom-of-mine" if (agent, uid) == ("claude", os.geteuid()) else None

    def agents_of(self, _uid):
        return (AgentName("claude"),)

    def caller_by_pidfd(self, _pidfd):
        return self

    async def attest(self, _known=None):
        return None

    async def issue(self, _ask):
        raise RefusedError("policy", "no rule allows it", next_step="see the files in policy.d")


async def test_the_protocols_end_to_end(tmp_path):
    one = OneUser()
    async with broker(tmp_path, Protocols(agents=one, callers=one, issuer=one).handle):
        phantom = await ask(root=tmp_path, name=shim.PHANTOM_HELPER)
        refused = await ask("get", "api-key", root=tmp_path)
        unknown = await ask("no-such", root=tmp_path)
        malformed = await ask("not a name", root=tmp_path)
    assert phantom[1:] == (0, b"phantom-of-mine\n", b"")
    assert refused[1:] == (3, b"", b"agent-broker: no rule allows it\n  see the files in policy.d\n")
    assert unknown[1:3] == (2, b"")
    assert b"it speaks: claude-api-key-helper, get" in unknown[3]
    assert malformed[1:3] == (2, b"")


def test_the_table_of_the_shim_lists_what_the_broker_speaks():
    table = (shim.SOURCE / "protocols.h").read_text()
    one = OneUser()
    assert set(re.findall(r'\.name = "([^"]+)"', table)) == {
        *Protocols(agents=one, callers=one, issuer=one).names,
        *TOOLS,
        BACKEND,
    }
