"""Questions and answers of sock_diag, as the kernel lays them out (include/uapi/linux/{netlink,inet_diag,unix_diag}.h).

Two questions, two answers, by struct: pyroute2 has them too, and the tests compare. A broker does not load it, since it
takes 10 MB, and more than half a second at the first connection.
"""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address
Side = tuple[Address, int]

HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = b"\xff" * 8  # INET_DIAG_NOCOOKIE, twice

_INET_QUESTION: Final = struct.Struct(
    "=BBxxI"
)  # struct inet_diag_req_v2 as far as its socket: family, protocol, states
_INET_SOCKET: Final = struct.Struct("!HH16s16s")  # struct inet_diag_sockid: ports, addresses; then interface, cookie
_NO_INTERFACE: Final = bytes(4)
_INET_ANSWER: Final = struct.Struct("=BBxx48s12xII")  # struct inet_diag_msg: family, state, the socket, uid, inode

_UNIX_QUESTION: Final = struct.Struct("=BxxxIII8s")  # struct unix_diag_req: family, states, inode, show, cookie
_UDIAG_SHOW_PEER: Final = 4
_UNIX_ANSWER_BYTES: Final = 16  # struct unix_diag_msg; attributes follow
_UNIX_DIAG_PEER: Final = 2
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr: length, type
_ALIGNED: Final = 4
_INODE: Final = struct.Struct("=I")


class Tcp(NamedTuple):
    """What an answer says of a TCP socket."""

    own: Side
    peer: Side
    state: int
    uid: int
    inode: int


def tcp_question(own: Side, peer: Side) -> bytes:
    """Return the question for the TCP socket between two addresses and ports."""
    family = socket.AF_INET6 if isinstance(own[0], IPv6Address) else socket.AF_INET
    wanted = _INET_SOCKET.pack(own[1], peer[1], own[0].packed, peer[0].packed)
    return _question(_INET_QUESTION.pack(family, socket.IPPROTO_TCP, _ANY_STATE) + wanted + _NO_INTERFACE + _NO_COOKIE)


def read_tcp(answer: bytes) -> Tcp:
    """Return what an answer says.

    Raises:
        struct.error: it is shorter than the kernel's.
    """
    family, state, sides, uid, inode = _INET_ANSWER.unpack_from(answer, HEADER.size)
    own_port, peer_port, own, peer = _INET_SOCKET.unpack_from(sides)
    size = 16 if family == socket.AF_INET6 else 4
    return Tcp((ip_address(own[:size]), own_port), (ip_address(peer[:size]), peer_port), state, uid, inode)


def unix_question(inode: int) -> bytes:
    """Return the question for the peer of a unix socket."""
    return _question(_UNIX_QUESTION.pack(socket.AF_UNIX, _ANY_STATE, inode, _UDIAG_SHOW_PEER, _NO_COOKIE))


def read_unix_peer(answer: bytes) -> int:
    """Return the peer's inode; 0: it has none."""
    for kind, value in _attributes(answer[HEADER.size + _UNIX_ANSWER_BYTES : HEADER.unpack_from(answer)[0]]):
        if kind == _UNIX_DIAG_PEER:
            return int(_INODE.unpack(value)[0])
    return 0


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[-(-length // _ALIGNED) * _ALIGNED :]


def _question(body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body
