"""The ssh-agent socket against clients that are slow, greedy, or somebody else's connection."""

import asyncio
import contextlib
import os
import signal
import socket

import pytest

from agent_broker.sign import connections
from agent_broker.ssh.keys import blob_of_line
from agent_broker.ssh.messages import MAX_MESSAGE_BYTES
from agent_broker.ssh.wire import number, string
from tests.fakes.sign import SignWorld

LIST = string(b"\x0b")
FAILURE = string(b"\x05")


@pytest.fixture
async def world(tmp_path):
    async with SignWorld(tmp_path).serving(max_per_user=16) as served:
        served.monitor.tools.add(os.path.realpath("/proc/self/exe"))
        served.add_key()
        served.writers = []
        yield served
        for writer in served.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def opened(world):
    reader, writer = await asyncio.open_unix_connection(str(world.path))
    world.writers.append(writer)
    return reader, writer


async def listed(reader, writer):
    writer.write(LIST)
    return (await answer_of(reader))[0]


async def answer_of(reader):
    length = int.from_bytes(await reader.readexactly(4))
    return await reader.readexactly(length)


async def test_messages_in_pieces_and_several_at_once_are_answered_in_order(world):
    reader, writer = await opened(world)
    for byte in LIST:
        writer.write(bytes((byte,)))
        await writer.drain()
    assert (await answer_of(reader))[0] == 12
    writer.write(LIST + string(b"\x63") + LIST)
    assert [(await answer_of(reader))[0] for _ in range(3)] == [12, 5, 12]


@pytest.mark.parametrize("head", [number(MAX_MESSAGE_BYTES + 1), number(0), number(0xFFFFFFFF), b"GET / HTTP/1.1\r\n"])
async def test_a_length_that_no_message_has_ends_the_connection(world, head):
    reader, writer = await opened(world)
    writer.write(head)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await reader.readexactly(1)


async def test_a_message_that_stays_half_ends_the_connection_and_holds_no_more_than_a_message(world, monkeypatch):
    monkeypatch.setattr(connections, "MESSAGE_S", 0.05)
    reader, writer = await opened(world)
    writer.write(number(MAX_MESSAGE_BYTES) + b"\x0d")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await reader.readexactly(1)


async def test_who_asks_nothing_is_ended_and_who_was_served_is_not(world, monkeypatch):
    monkeypatch.setattr(connections, "STRANGER_IDLE_S", 1.0)
    reader, writer = await opened(world)
    assert await listed(reader, writer) == 12
    silent, _ = await opened(world)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await silent.readexactly(1)
    assert await listed(reader, writer) == 12


async def test_who_is_refused_again_and_again_is_hung_up_on(world):
    world.monitor.tools.clear()
    reader, writer = await opened(world)
    answers = b""
    writer.write(LIST * 100)
    try:
        while piece := await reader.read(65536):
            answers += piece
    except ConnectionResetError:
        pass
    assert answers == FAILURE * connections.STRANGER_REQUESTS


async def test_idle_connections_make_room_and_the_served_one_stays(world):
    reader, writer = await opened(world)
    assert await listed(reader, writer) == 12
    for _ in range(40):
        await opened(world)
    assert await listed(reader, writer) == 12
    assert len(world.socket.places) <= 16


async def test_who_reads_no_answers_is_read_from_no_more(world):
    end = socket.socket(socket.AF_UNIX)
    end.connect(str(world.path))
    end.setblocking(False)
    sent = 0
    loop = asyncio.get_running_loop()
    try:
        while sent < 50_000_000:
            await asyncio.wait_for(loop.sock_sendall(end, LIST * 1000), 0.5)
            sent += len(LIST) * 1000
    except TimeoutError:
        pass
    assert sent < 50_000_000
    reader, writer = await opened(world)
    assert await listed(reader, writer) == 12
    end.close()


async def test_a_connection_in_other_hands_is_nobodys(world):
    """Another process holds it too: the monitor says so, for each signature anew. Public keys are told all the same."""
    reader, writer = await opened(world)
    assert await signed(world, reader, writer)
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert not await signed(world, reader, writer)
        assert await listed(reader, writer) == 12
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert await signed(world, reader, writer)


async def signed(world, reader, writer):
    (key,) = (blob_of_line(line.read_text().strip())[0] for line in world.folder.glob("*.pub"))
    text = b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512") + string(bytes(64))
    writer.write(string(b"\x0d" + string(key) + string(text) + number(0)))
    return (await answer_of(reader))[0] == 14
