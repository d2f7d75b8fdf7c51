"""What every caller gets from agent.sock, however its kernel names writers."""

import asyncio
import contextlib
import os
import resource
import struct

import pytest

from agent_broker.errors import MisuseError, RefusedError, UnavailableError
from agent_broker.transport.agent_socket import AgentSocket, bind_agent_socket
from agent_broker.transport.frame import (
    MAX_FRAME_BYTES,
    ShimAnswer,
    ShimRequest,
    decode_answer,
    decode_versions,
)
from agent_broker.transport.limits import Limits
from agent_broker.vault.secret import Secret
from tests.fakes.agent_socket import METHODS, REQUEST, Recorder, answer_to, ask, receive, serving, talk
from tests.fakes.seqpacket import connected, open_descriptors

CANARY = "do-not-quote-me"


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def method(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


async def test_a_request_is_answered_and_its_writer_known(folder, method):
    handle = Recorder()
    async with serving(folder, handle, method=method) as server:
        answer = await answer_to(server.path)
        assert server.peer_method() == method.value
    assert answer == ShimAnswer(0, b"yes")
    assert handle.seen == [(ShimRequest("get", ("api-key",)), os.geteuid(), os.getpid(), os.getpid())]


async def test_a_socket_that_listens_already_is_taken_over(folder, method):
    listener = bind_agent_socket(folder / "agent.sock", method=method)
    server = AgentSocket.from_listening(listener, Recorder(), method=method)
    server.start()
    assert server.path == folder / "agent.sock"
    assert (await answer_to(server.path)).exit_code == 0
    await server.close()
    await server.close()


async def test_what_was_sent_before_anybody_accepted_has_a_writer_too(folder, method):
    listener = bind_agent_socket(folder / "agent.sock", method=method)
    with connected(folder / "agent.sock") as client:
        client.send(REQUEST)
        handle = Recorder()
        server = AgentSocket.from_listening(listener, handle, method=method)
        server.start()
        assert decode_answer(await asyncio.to_thread(talk, client)).exit_code == 0
        await server.close()
    assert handle.seen[0][3] == os.getpid()


async def test_a_connection_gets_one_answer(folder, method):
    async with serving(folder, Recorder(), method=method) as server:
        with connected(server.path) as client:
            client.send(REQUEST)
            assert decode_answer(await asyncio.to_thread(talk, client)).exit_code == 0
            assert await asyncio.to_thread(client.recv, 100) == b""
            with pytest.raises(BrokenPipeError):
                client.send(REQUEST)


async def test_a_secret_is_wiped_when_it_has_left(folder):
    secret = Secret(b"real")
    async with serving(folder, Recorder(ShimAnswer(0, secret))) as server:
        assert (await answer_to(server.path)).stdout == b"real"
    with pytest.raises(Exception, match="wiped"):
        secret.reveal()


@pytest.mark.parametrize(
    "message",
    [
        b"garbage " + CANARY.encode(),
        REQUEST[:-1],
        REQUEST + REQUEST,
        REQUEST + b"\0",
        b"x" * (MAX_FRAME_BYTES + 1),
        b"x" * (MAX_FRAME_BYTES + 70),
    ],
    ids=["garbage", "cut", "two requests", "one byte more", "too long by 1", "too long"],
)
async def test_garbage_gets_an_error_and_no_handler(folder, method, message):
    handle = Recorder()
    async with serving(folder, handle, method=method) as server:
        answer = await answer_to(server.path, message)
    assert answer.exit_code == 2
    assert b"malformed message" in answer.stderr
    assert CANARY.encode() not in answer.stderr
    assert handle.seen == []


async def test_another_version_is_told_which_one_is_spoken(folder, method):
    async with serving(folder, Recorder(), method=method) as server:
        future = REQUEST[:4] + struct.pack("<H", 9) + REQUEST[6:]
        frame = await asyncio.to_thread(ask, server.path, future)
    assert decode_versions(frame) == (1,)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RefusedError("policy", "no rule allows it", detail="secret detail", next_step="ask"), 3, b"no rule allows it"),
        (MisuseError("not so"), 2, b"not so"),
        (UnavailableError("the monitor is down", next_step="start it"), 4, b"start it"),
        (ValueError(CANARY), 1, b"internal error"),
        (TimeoutError(CANARY), 1, b"internal error"),
    ],
)
async def test_a_failing_handler_is_answered(folder, caplog, error, code, text):
    async with serving(folder, Recorder(error)) as server:
        answer = await answer_to(server.path)
    assert answer.exit_code == code
    assert answer.stderr.startswith(b"agent-broker: ")
    assert text in answer.stderr
    assert b"secret detail" not in answer.stderr
    assert CANARY.encode() not in answer.stderr
    assert CANARY not in caplog.text
    assert (type(error).__name__ in caplog.text) == (code == 1)


async def test_an_answer_that_no_frame_can_hold_is_an_error(folder):
    async with serving(folder, Recorder(ShimAnswer(0, b"x" * MAX_FRAME_BYTES))) as server:
        assert (await answer_to(server.path)).exit_code == 2


async def test_a_handler_that_hangs_is_answered_for(folder):
    async def hang(_request, _peer):
        await asyncio.Event().wait()

    async with serving(folder, hang, limits=Limits(answer_s=0.05)) as server:
        answer = await answer_to(server.path)
    assert answer.exit_code == 4
    assert b"did not finish in time" in answer.stderr


async def test_a_connection_that_asks_nothing_is_closed(folder, method):
    async with serving(folder, Recorder(), method=method, limits=Limits(idle_s=0.05)) as server:
        with connected(server.path) as client:
            assert decode_answer(await asyncio.to_thread(receive, client)).exit_code == 4
            assert await asyncio.to_thread(receive, client) == b""


async def test_an_empty_message_is_a_hang_up(folder, method):
    handle = Recorder()
    async with serving(folder, handle, method=method) as server:
        with connected(server.path) as client:
            client.send(b"")
            assert await asyncio.to_thread(receive, client) == b""
    assert handle.seen == []


async def test_the_oldest_idle_connection_makes_room(folder):
    async with serving(folder, Recorder(), limits=Limits(connections=2, per_uid=9, idle_s=30)) as server:
        with connected(server.path) as first, connected(server.path) as second:
            assert (await answer_to(server.path)).exit_code == 0
            assert await asyncio.to_thread(receive, first) == b""
            second.send(REQUEST)
            assert decode_answer(await asyncio.to_thread(talk, second)).exit_code == 0


@pytest.mark.parametrize("limits", [Limits(connections=1, per_uid=9), Limits(connections=9, per_uid=1)])
async def test_who_finds_everybody_being_served_is_turned_away(folder, limits):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_request, _peer):
        entered.set()
        await go_on.wait()
        return ShimAnswer(0)

    async with serving(folder, wait, limits=limits) as server:
        first = asyncio.create_task(answer_to(server.path))
        await entered.wait()
        turned_away = await answer_to(server.path)
        go_on.set()
        assert turned_away.exit_code == 4
        assert b"too many connections" in turned_away.stderr
        assert (await first).exit_code == 0
        assert (await answer_to(server.path)).exit_code == 0


async def test_closing_drops_everybody(folder):
    entered = asyncio.Event()

    async def wait(_request, _peer):
        entered.set()
        await asyncio.Event().wait()

    async with serving(folder, wait, limits=Limits(idle_s=30, answer_s=30)) as server:
        with connected(server.path) as idle, connected(server.path) as asking:
            asking.send(REQUEST)
            await entered.wait()
            await server.close()
            assert await asyncio.to_thread(receive, idle) == b""
            assert await asyncio.to_thread(receive, asking) == b""


async def test_when_descriptors_run_out_it_waits_and_goes_on(folder, caplog):
    async with serving(folder, Recorder(), limits=Limits(idle_s=30, per_process=99)) as server:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connected(server.path)) for _ in range(20)]
            await asyncio.sleep(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + 3, hard))
            try:
                while "no connection can be accepted" not in caplog.text:
                    await asyncio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert len(clients) == 20
            assert (await answer_to(server.path)).exit_code == 0
