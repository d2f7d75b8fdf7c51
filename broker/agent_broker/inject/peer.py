"""Whose socket is at the other end of a connection.

The law of this module:
1. The answer is a *socket*, named by its inode, found by an exact question to the kernel. Which process holds it,
   and that it is the only one, is for the monitor to say (``attest_socket``): nothing here reads /proc.
2. Only a live socket of this machine counts, by TCP of this network namespace. A client that closed or half-closed its
   side, speaks TCP from another namespace or another machine, or can't be found, is no one: the reason is told. What is
   connected to our unix socket from another network namespace (a container), only the monitor can find: see ``Peer``.
3. ``confirm`` asks again before each request, so that neither a closed connection nor a re-used number passes.
4. The age of the connection is known, so that a program can be told from what was executed over it: whoever
   connects, writes a request, and then executes the agent over himself, has a connection older than the agent.

What this can't see by itself: a process that borrows the agent's descriptor (ptrace, pidfd_getfd), writes, and closes
its copy before the look-up. The monitor does: the kernel notes who writes on the broker's connections (Linux 6.3).
On unix sockets the age begins when the broker accepts, not when the client connects: the kernel keeps no older
date, so a client that executes the agent within that gap (microseconds, unless the broker is busy) is not told.
"""

import errno
import os
import socket
import struct
import time
from typing import Final, Protocol

from msgspec import Struct

from agent_broker.clock import Clock
from agent_broker.errors import RefusedError
from agent_broker.ids import Uid
from agent_broker.inject.sock_diag import TCP_ESTABLISHED, Address, Endpoints, Found, SockDiag, TcpSocket, plain

SO_PEERPIDFD: Final = 77  # include/uapi/asm-generic/socket.h, Linux 6.5

_PEERCRED: Final = struct.Struct("=3i")  # struct ucred: pid, uid, gid
_PIDFD: Final = struct.Struct("=i")
_MILLISECONDS: Final = struct.Struct("=I")
_LAST_DATA_SENT_OFFSET: Final = 44  # bytes into struct tcp_info (include/uapi/linux/tcp.h), a u32 of milliseconds
_TCP_INFO_BYTES: Final = 104
_CLOCK_MONOTONIC_COARSE: Final = 6  # include/uapi/linux/time.h
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


class SocketLike(Protocol):
    """What is asked of a connection's socket; asyncio's TransportSocket offers no more."""

    @property
    def family(self) -> int:
        """AF_UNIX, AF_INET or AF_INET6."""
        ...

    def fileno(self) -> int:
        """Return the descriptor; -1 if closed."""
        ...

    def getpeername(self) -> tuple[str, int] | tuple[str, int, int, int] | str:
        """Return the other side's address."""
        ...

    def getsockname(self) -> tuple[str, int] | tuple[str, int, int, int] | str:
        """Return this side's address."""
        ...

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        """Return a socket option's bytes."""
        ...


class PeerUnknownError(RefusedError):
    """There is no process of this machine that can be named at the other end."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__("peer", message, next_step=next_step)


class Peer(Struct, frozen=True):
    """The socket at the other end."""

    uid: Uid
    """Of the process that made it; the evidence's uid decides, this one only counts connections."""
    inode: int
    """0: it is in another network namespace, and the monitor is to be asked what is connected to ``own_inode``."""
    opened_ns: int
    """CLOCK_BOOTTIME: the connection is not older than this."""
    found: Found | None
    own_inode: int = 0
    """Of our side of a unix connection from another network namespace."""


class PeerFinder:
    """Finds peers. Its calls are short (about 50 us) and don't block: fit for the event loop."""

    def __init__(self, diag: SockDiag, clock: Clock) -> None:
        self._diag = diag
        self._clock = clock
        # Ages are counted in jiffies, and the coarse clocks advance by one jiffy.
        self._tick_ns = int(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * _NS_PER_S)

    def find(self, connection: SocketLike) -> Peer:
        """Return the socket at the other end of an accepted connection, before anything was written to it.

        Raises:
            PeerUnknownError: there is none, or none that counts.
            UnavailableError: the kernel does not answer.
        """
        now_ns = self._clock.boot_ns()
        own_inode = 0
        found: Found | None
        try:
            if connection.family == socket.AF_UNIX:
                found, uid = self._unix(connection), _unix_uid(connection)
                age_ns, own_inode = 0, 0 if found else os.fstat(connection.fileno()).st_ino
            else:
                found = tcp = self._tcp(connection)
                uid, age_ns = tcp.uid, (_age_ms(connection) + 1) * _NS_PER_MS + self._tick_ns
        except OSError as error:
            raise _closed() from error
        inode = found.inode if found else 0
        return Peer(uid=Uid(uid), inode=inode, opened_ns=now_ns - age_ns, found=found, own_inode=own_inode)

    def confirm(self, peer: Peer) -> None:
        """Return if the same socket is still at the other end.

        Raises:
            PeerUnknownError: it is not.
            UnavailableError: the kernel does not answer.
        """
        if peer.found is not None and not self._diag.is_same(peer.found):
            raise _closed()

    def _unix(self, connection: SocketLike) -> Found | None:
        """None: it is not in this network namespace (the kernel counts our side to the client's namespace)."""
        found = self._diag.unix_peer(os.fstat(connection.fileno()).st_ino)
        if found is not None and found.inode == 0:
            raise _closed()
        return found

    def _tcp(self, connection: SocketLike) -> TcpSocket:
        client = _client_endpoints(connection)
        found = self._diag.tcp(client)
        if found is None or found.endpoints != client:
            raise _other_namespace()
        if found.state != TCP_ESTABLISHED or found.inode == 0:
            raise _closed()
        return found


def opener_pidfd(connection: SocketLike) -> int | None:
    """Return a pidfd of the process that connected a unix socket; the caller closes it.

    Returns:
        None for TCP and for kernels without SO_PEERPIDFD: the holder of the socket is known all the same.

    Raises:
        PeerUnknownError: that process has ended.
    """
    if connection.family != socket.AF_UNIX:
        return None
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, _PIDFD.size)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return None
        raise PeerUnknownError("the process that opened the connection has ended") from error
    return int(_PIDFD.unpack(raw)[0])


def _client_endpoints(connection: SocketLike) -> Endpoints:
    address, port = _address(connection.getpeername())
    own_address, own_port = _address(connection.getsockname())
    if not address.is_loopback:
        raise PeerUnknownError("the connection does not come from this machine's loopback")
    return Endpoints(address=address, port=port, peer_address=own_address, peer_port=own_port)


def _address(name: tuple[str, int] | tuple[str, int, int, int] | str) -> tuple[Address, int]:
    return plain(str(name[0])), int(name[1])


def _unix_uid(connection: SocketLike) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    return int(_PEERCRED.unpack(credentials)[1])


def _age_ms(connection: SocketLike) -> int:
    # A connection that has sent nothing dates its last sending from its own birth (tcp_create_openreq_child).
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int(_MILLISECONDS.unpack_from(info, _LAST_DATA_SENT_OFFSET)[0])


def _closed() -> PeerUnknownError:
    return PeerUnknownError("the client has closed its side of the connection")


def _other_namespace() -> PeerUnknownError:
    return PeerUnknownError(
        "the client is not in the broker's network namespace, so its process can't be verified",
        next_step="give the container the broker's unix socket (inject.sock), or run the agent outside",
    )
