"""A nameserver that knows no name, at the addresses where programs look for one: they learn it at once.

For a network namespace of one's own. Without it a resolver waits for an answer that never comes: musl's for 5 seconds.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute

_LOOPBACK_INDEX = 1  # the first device of every network namespace
_PORT = 53
_HEADER_BYTES = 12  # RFC 1035 section 4.1.1
_NO_SUCH_NAME = b"\x81\x83"  # a response, recursion desired and available, NXDOMAIN
_ONE_QUESTION = b"\x00\x01" + bytes(6)
_TYPE_AND_CLASS_BYTES = 4
_MOST_BYTES = 4096


@contextlib.contextmanager
def no_names() -> Iterator[None]:
    """Answer until it is left."""
    with contextlib.ExitStack() as undo:
        for address in _nameservers():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            _have_address(address, family)
            server = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            server.bind((address, _PORT))
            undo.callback(_end, server)
            threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield


def _serve(server: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was shut down
        while True:
            asked, who = server.recvfrom(_MOST_BYTES)
            if len(asked) > _HEADER_BYTES:
                server.sendto(_answer(asked), who)


def _answer(asked: bytes) -> bytes:
    end = asked.index(0, _HEADER_BYTES) + 1 + _TYPE_AND_CLASS_BYTES
    return asked[:2] + _NO_SUCH_NAME + _ONE_QUESTION + asked[_HEADER_BYTES:end]


def _nameservers() -> list[str]:
    file = Path("/etc/resolv.conf")
    lines = [line.split() for line in (file.read_text().splitlines() if file.exists() else [])]
    return sorted({line[1].partition("%")[0] for line in lines if line[:1] == ["nameserver"]}) or ["127.0.0.1"]


def _have_address(address: str, family: int) -> None:
    if address.startswith("127.") or address == "::1":
        return
    with IPRoute() as route:
        route.addr(
            "replace", index=_LOOPBACK_INDEX, address=address, prefixlen=128 if family == socket.AF_INET6 else 32
        )


def _end(server: socket.socket) -> None:
    with contextlib.suppress(OSError):  # ENOTCONN: nothing is connected, but who waits is woken
        server.shutdown(socket.SHUT_RDWR)
