"""How an inventory's answers travel: framed as in file_protocol."""

import socket
import struct

import msgspec

from agent_broker.enroll.inventory_protocol import Answer, Order

_LENGTH = struct.Struct(">I")


def send_answer(channel: socket.socket, message: Answer | Order) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone; TimeoutError: it does not read.
    """
    frame = msgspec.msgpack.encode(message)
    channel.sendall(_LENGTH.pack(len(frame)) + frame)
