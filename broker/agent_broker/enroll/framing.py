"""Messages between root's process and one that gave up root.

On the wire: four bytes of length, most significant first, then msgpack.
"""

import socket
import struct

import msgspec
from msgspec import Struct

from agent_broker.errors import UnavailableError

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")


def send(channel: socket.socket, message: Struct) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone; TimeoutError: it does not read.
    """
    frame = msgspec.msgpack.encode(message)
    channel.sendall(_LENGTH.pack(len(frame)) + frame)


def receive(channel: socket.socket) -> bytes | None:
    """Return one frame, still encoded; None: the other side closed.

    Raises:
        OSError: as recv(2); TimeoutError: nothing came.
        UnavailableError: closed in the middle of a frame, or the frame is too long.
    """
    head = _receive_exactly(channel, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    body = _receive_exactly(channel, length) if length <= MAX_FRAME_BYTES else None
    if body is None:
        raise UnavailableError("the process that acts as the user broke off")
    return body


def _receive_exactly(channel: socket.socket, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        piece = channel.recv(min(length - len(data), 1 << 20))
        if not piece:
            if data:
                raise UnavailableError("the process that acts as the user broke off")
            return None
        data += piece
    return bytes(data)
