"""Callers of agent.sock and a handler that remembers them; shared by the suites of the attested socket."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from agent_broker.transport.agent_socket import AgentSocket
from agent_broker.transport.frame import (
    MAX_FRAME_BYTES,
    FrameType,
    ShimAnswer,
    ShimRequest,
    decode_answer,
    decode_nonce,
    encode_nonce,
    encode_request,
)
from agent_broker.transport.peer import PeerMethod, detect_method
from tests.fakes.seqpacket import connected, open_descriptors

KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])
REQUEST = encode_request(ShimRequest("get", ("api-key",)))
STRONGEST = detect_method()
METHODS = list(PeerMethod)[list(PeerMethod).index(STRONGEST) :]
"""What this kernel offers, and everything weaker."""


@contextlib.asynccontextmanager
async def serving(folder, handle, **options):
    server = AgentSocket(folder / "agent.sock", handle, **options)
    server.start()
    try:
        yield server
    finally:
        await server.close()


class Recorder:
    """A handler that remembers who asked what."""

    def __init__(self, answer=None) -> None:
        self.seen = []
        self.answer = answer or ShimAnswer(0, b"yes")

    async def __call__(self, request, peer):
        self.seen.append((request, peer.uid, peer.pid, pid_behind(peer.pidfd)))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


async def asked_by_a_new_process(path) -> bytes:
    """As a shim does: a connection refused by a full queue is tried again."""
    script = (
        "import socket, sys\n"
        "end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); end.connect(sys.argv[1])\n"
        "end.send(bytes.fromhex(sys.argv[2])); sys.stdout.buffer.write(end.recv(70000))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", script, path, REQUEST.hex(), stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    return answer


def pid_behind(pidfd: int) -> int:
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


def receive(client) -> bytes:
    try:
        return client.recv(MAX_FRAME_BYTES + 1)
    except ConnectionResetError:  # hung up on with something unread; what was sent before comes after it
        return client.recv(MAX_FRAME_BYTES + 1)


def talk(client) -> bytes:
    """Confirm if asked to; return the last frame."""
    frame = receive(client)
    if frame[6:7] == bytes((FrameType.CHALLENGE,)):
        client.send(encode_nonce(FrameType.CONFIRM, decode_nonce(frame, FrameType.CHALLENGE)))
        frame = receive(client)
    return frame


def ask(path, message=REQUEST) -> bytes:
    with connected(path) as client:
        with contextlib.suppress(BrokenPipeError):  # turned away before it could ask
            client.send(message)
        return talk(client)


async def answer_to(path, message=REQUEST) -> ShimAnswer:
    return decode_answer(await asyncio.to_thread(ask, path, message))


async def settled(server) -> int:
    """Return the number of open descriptors once every conversation has ended."""
    while len(server._places):
        await asyncio.sleep(0)
    return open_descriptors()
