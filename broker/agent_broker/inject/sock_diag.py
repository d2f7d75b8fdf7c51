"""Facts about one socket, asked of the kernel by netlink (sock_diag).

Exact look-ups only: the kernel finds the one socket by its addresses or its inode, so a question costs about
50 us however many sockets the machine has (a dump through ``DiagSocket.get_sock_stats`` costs milliseconds and
grows). The exchange is made here: pyroute2's transport can't tell an error from an AF_INET answer (its marshal keys on
the family byte, and NLMSG_ERROR equals AF_INET).

Needs no privilege. Sees the network namespace that this process was in when the object was made.
"""

import errno
import ipaddress
import os
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.inject.sock_diag_messages import HEADER, read_tcp, read_unix_peer, tcp_question, unix_question

Address = IPv4Address | IPv6Address

TCP_ESTABLISHED: Final = 1  # include/net/tcp_states.h

_NETLINK_SOCK_DIAG: Final = 4  # include/uapi/linux/netlink.h, as the next
_NLMSG_ERROR: Final = 2
_ERRNO: Final = struct.Struct("=i")
_SEQUENCE_OFFSET: Final = 8  # bytes into struct nlmsghdr
_SEQUENCE_END: Final = 12
_ANSWER_BYTES: Final = 16384
_INET_STABLE: Final = (slice(16, 18), slice(20, 68), slice(80, 88))
"""Bytes of an answer with struct inet_diag_msg (include/uapi/linux/inet_diag.h): family and state; addresses,
interface and cookie; uid and inode. Left out: timers and queue lengths."""


class Endpoints(Struct, frozen=True):
    """One side of a TCP connection: its own address first."""

    address: Address
    port: int
    peer_address: Address
    peer_port: int


class Found(Struct, frozen=True):
    """A socket that was found, and how to find it again."""

    inode: int
    """In sockfs, as fstat shows it to the holder; 0: no process holds it any more."""
    question: bytes
    sameness: bytes
    """What stays equal in the kernel's answers as long as it is this socket, in this state, held by somebody."""


class TcpSocket(Found, frozen=True):
    """What the kernel says of one TCP socket."""

    endpoints: Endpoints
    state: int
    """Numbers of include/net/tcp_states.h."""
    uid: int
    """Of the process that created it."""


class SockDiag:
    """One netlink socket; its calls don't block. Not for two threads at once."""

    def __init__(self) -> None:
        """Open the netlink socket.

        Raises:
            UnavailableError: the kernel has no sock_diag.
        """
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
            self._socket.bind((0, 0))
        except OSError as error:
            raise UnavailableError(f"sock_diag can't be opened: {error.strerror}") from error
        self._socket.settimeout(0)
        self._sequence = 0

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def tcp(self, wanted: Endpoints) -> TcpSocket | None:
        """Return the TCP socket whose own address comes first in ``wanted``; None if there is none.

        The kernel falls back to a listening socket on the same port: compare ``endpoints`` and ``state``.

        Raises:
            UnavailableError: the kernel does not answer.
        """
        question = tcp_question((wanted.address, wanted.port), (wanted.peer_address, wanted.peer_port))
        answer = self._ask(question)
        if answer is None:
            return None
        found = read_tcp(answer)
        return TcpSocket(
            inode=found.inode,
            question=question,
            sameness=_sameness(answer),
            endpoints=Endpoints(
                address=plain(str(found.own[0])),
                port=found.own[1],
                peer_address=plain(str(found.peer[0])),
                peer_port=found.peer[1],
            ),
            state=found.state,
            uid=found.uid,
        )

    def unix_peer(self, inode: int) -> Found | None:
        """Return the socket at the other end of the connected unix socket with this inode.

        Returns:
            None if this network namespace has no such socket.

        Raises:
            UnavailableError: the kernel does not answer.
        """
        question = unix_question(inode)
        answer = self._ask(question)
        if answer is None:
            return None
        return Found(inode=read_unix_peer(answer), question=question, sameness=_sameness(answer))

    def is_same(self, found: Found) -> bool:
        """Return whether the question that found a socket still finds it, unchanged; takes 10 us.

        Raises:
            UnavailableError: the kernel does not answer.
        """
        answer = self._ask(found.question)
        return answer is not None and _sameness(answer) == found.sameness

    def _ask(self, question: bytes) -> bytes | None:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        numbered = question[:_SEQUENCE_OFFSET] + self._sequence.to_bytes(4, sys.byteorder) + question[_SEQUENCE_END:]
        try:
            self._socket.send(numbered)
            answer = self._receive()
        except OSError as error:
            raise UnavailableError(f"sock_diag does not answer: {error.strerror}") from error
        if HEADER.unpack_from(answer)[1] != _NLMSG_ERROR:
            return answer
        code = -_ERRNO.unpack_from(answer, HEADER.size)[0]
        if code == errno.ENOENT:
            return None
        raise UnavailableError(
            f"sock_diag refuses the question: {os.strerror(code)}",
            next_step="the kernel needs the modules tcp_diag and unix_diag: sudo modprobe -a tcp_diag unix_diag",
        )

    def _receive(self) -> bytes:
        # The kernel queues its answer before send() returns; what is left of an earlier exchange is passed over.
        while True:
            answer = self._socket.recv(_ANSWER_BYTES)
            if len(answer) >= HEADER.size and HEADER.unpack_from(answer)[3] == self._sequence:
                return answer


def plain(address: str) -> Address:
    """Return an address, an IPv4-mapped one as the IPv4 address that it is.

    Raises:
        ValueError: not an address.
    """
    parsed = ipaddress.ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _sameness(answer: bytes) -> bytes:
    if answer[HEADER.size] == socket.AF_UNIX:
        return answer[HEADER.size :]
    return b"".join(answer[part] for part in _INET_STABLE)
