"""Who wrote it: one suite for what the running kernel offers, and what older ones leave."""

import array
import asyncio
import contextlib
import errno
import itertools
import os
import socket
import subprocess
from pathlib import Path

import pytest

from agent_broker.admission.standing import Standings
from agent_broker.errors import RefusedError
from agent_broker.transport.agent_socket import AgentSocket, bind_agent_socket
from agent_broker.transport.frame import (
    MAX_FRAME_BYTES,
    FrameType,
    ShimAnswer,
    decode_answer,
    decode_nonce,
    encode_nonce,
)
from agent_broker.transport.limits import Limits
from agent_broker.transport.peer import Message, Peer, PeerMethod, check_writer
from tests.fakes.agent_socket import (
    KERNEL,
    METHODS,
    REQUEST,
    STRONGEST,
    Recorder,
    answer_to,
    ask,
    receive,
    serving,
    settled,
    talk,
)
from tests.fakes.seqpacket import connected, forked


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def method(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


async def test_a_writer_that_inherited_the_socket_is_refused(folder, method):
    handle = Recorder()
    async with serving(folder, handle, method=method) as server:
        with connected(server.path) as client, forked(lambda: client.send(REQUEST)):
            answer = decode_answer(await asyncio.to_thread(talk, client))
    assert answer.exit_code == 3
    assert b"not the process that connected" in answer.stderr
    assert handle.seen == []


async def test_a_writer_that_was_passed_the_socket_of_a_dead_process_is_refused(folder, method):
    handle = Recorder()
    async with serving(folder, handle, method=method, limits=Limits(idle_s=30)) as server:
        ours, theirs = socket.socketpair()
        with ours, theirs:

            def connect_and_pass():
                with connected(server.path) as client:
                    socket.send_fds(theirs, [b"."], [client.fileno()])

            with forked(connect_and_pass):
                _, (descriptor,), _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
        with socket.socket(fileno=descriptor) as client:
            client.settimeout(30)
            with contextlib.suppress(BrokenPipeError):  # refused at once, where the connector's death shows
                client.send(REQUEST)
            assert decode_answer(await asyncio.to_thread(talk, client)).exit_code == 3
    assert handle.seen == []


async def test_a_writer_that_died_is_refused(folder, method):
    """Its request is in the queue, and its end of the connection is held open by its parent."""
    handle = Recorder()
    listener = bind_agent_socket(folder / "agent.sock", method=method)
    ours, theirs = socket.socketpair()

    def ask_and_pass():
        client = connected(folder / "agent.sock")
        client.send(REQUEST)
        socket.send_fds(theirs, [b"."], [client.fileno()])

    with ours, theirs, forked(ask_and_pass):
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    server = AgentSocket.from_listening(listener, handle, method=method)
    server.start()
    with socket.socket(fileno=descriptor) as client:
        client.settimeout(30)
        answer = decode_answer(await asyncio.to_thread(talk, client))
    await server.close()
    assert answer.exit_code == 3
    assert b"has ended" in answer.stderr
    assert handle.seen == []


def test_the_method_is_the_strongest_that_this_kernel_has():
    assert (STRONGEST is PeerMethod.SCM_PIDFD) == (KERNEL >= (6, 5))


@contextlib.contextmanager
def child_that_sleeps():
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            yield child
        finally:
            child.kill()


def test_the_writers_pidfd_must_be_the_connectors():
    """Whatever number came with it."""
    with child_that_sleeps() as child, Peer(os.pidfd_open(os.getpid()), os.geteuid(), os.getpid()) as connector:

        def check(pidfd: int) -> None:
            with Message(REQUEST, pidfd, os.getpid(), os.geteuid(), is_whole=True) as message:
                check_writer(connector, message, PeerMethod.SCM_PIDFD)

        check(os.pidfd_open(os.getpid()))
        others = [-1, -errno.ESRCH]
        if KERNEL >= (6, 9):  # before, pidfds have no inodes of their own
            others.append(os.pidfd_open(child.pid))
        for other in others:
            with pytest.raises(RefusedError):
                check(other)
        dead = os.pidfd_open(child.pid)
        child.kill()
        child.wait()
        with pytest.raises(RefusedError, match="ended"):
            check(dead)


async def test_a_nonce_that_was_not_asked_for_is_refused(folder):
    handle = Recorder()
    async with serving(folder, handle, method=PeerMethod.SO_PEERCRED) as server:
        with connected(server.path) as client:
            client.send(REQUEST)
            client.send(encode_nonce(FrameType.CONFIRM, b"n" * 16))
            challenge = await asyncio.to_thread(receive, client)
            assert len(decode_nonce(challenge, FrameType.CHALLENGE)) == 16
            assert decode_answer(await asyncio.to_thread(receive, client)).exit_code == 3
    assert handle.seen == []


async def test_a_nonce_sent_back_by_another_process_is_refused(folder):
    handle = Recorder()
    async with serving(folder, handle, method=PeerMethod.SO_PEERCRED) as server:
        with connected(server.path) as client:
            client.send(REQUEST)
            nonce = decode_nonce(await asyncio.to_thread(receive, client), FrameType.CHALLENGE)
            with forked(lambda: client.send(encode_nonce(FrameType.CONFIRM, nonce))):
                answer = decode_answer(await asyncio.to_thread(receive, client))
    assert answer.exit_code == 3
    assert handle.seen == []


def send_with_descriptors(client, count: int) -> None:
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(Path("/dev/null").open("rb")) for _ in range(count)]
        attached = array.array("i", [file.fileno() for file in files])
        client.sendmsg([REQUEST], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, attached)])


SO_PASSRIGHTS = 83


@pytest.mark.parametrize("count", [1, 2, 3, 200])
async def test_descriptors_sent_along_are_closed_and_the_request_refused(folder, method, count):
    handle = Recorder()
    async with serving(folder, handle, method=method) as server:
        with contextlib.suppress(OSError):  # kernels before 6.16 always let them through
            server._listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 1)
        await asyncio.to_thread(ask_with_descriptors, server.path, count)
        before = await settled(server)
        for _ in range(5):
            answer = await asyncio.to_thread(ask_with_descriptors, server.path, count)
            assert answer.exit_code == 2
            assert b"descriptors attached" in answer.stderr
        assert await settled(server) == before
    assert handle.seen == []


def ask_with_descriptors(path, count: int) -> ShimAnswer:
    with connected(path) as client:
        send_with_descriptors(client, count)
        return decode_answer(talk(client))


async def test_where_the_kernel_can_it_refuses_to_carry_descriptors(folder, method):
    async with serving(folder, Recorder(), method=method) as server:
        with connected(server.path) as client:
            if KERNEL >= (6, 16):
                with pytest.raises(PermissionError):
                    send_with_descriptors(client, 1)
                client.send(REQUEST)
                assert decode_answer(await asyncio.to_thread(talk, client)).exit_code == 0
            else:
                send_with_descriptors(client, 1)
                assert decode_answer(await asyncio.to_thread(talk, client)).exit_code == 2


async def test_nothing_that_a_caller_does_leaves_a_descriptor_behind(folder, method):
    def misbehave():
        for message in (REQUEST, b"garbage", REQUEST[:5], b"x" * (MAX_FRAME_BYTES + 9), b""):
            ask(server.path, message)
            with connected(server.path) as client:
                client.send(message)
            connected(server.path).close()
        with connected(server.path) as client, forked(lambda: client.send(REQUEST)):
            talk(client)
        with connected(server.path) as client:
            client.send(REQUEST)
            with contextlib.suppress(BrokenPipeError):  # answered already, where no nonce is asked for
                client.send(b"not the nonce")
            receive(client)

    patient = Standings(itertools.count().__next__)  # a second passes with each look
    async with serving(folder, Recorder(ValueError()), method=method, standings=patient) as server:
        await asyncio.to_thread(misbehave)
        before = await settled(server)
        for _ in range(3):
            await asyncio.to_thread(misbehave)
        await answer_to(server.path)
        assert await settled(server) == before
