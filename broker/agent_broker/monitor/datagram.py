"""One request of monitor.sock as it comes off the socket: its bytes, and the descriptors that came with it."""

import array
import os
import socket

from agent_broker.monitor.messages import MAX_MESSAGE_BYTES, MAX_PROCESSES

_MAX_FDS = MAX_PROCESSES + 1


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return one datagram and the descriptors that came with it; more than fit are dropped by the kernel."""
    space = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)
    data, ancillary, _, _ = connection.recvmsg(MAX_MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(raw[: len(raw) - len(raw) % found.itemsize])
    return data, found.tolist()


def close_all(descriptors: list[int]) -> None:
    """Close descriptors."""
    for each in descriptors:
        os.close(each)
