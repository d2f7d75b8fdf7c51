"""Who wrote a message on a unix socket: the kernel's word, never the message's.

The law: a connection belongs to one process. Whoever writes on it must be the process that connected it,
alive, with one user id; anything else is refused. That closes, with every method below:

- a socket that was inherited by or passed to another process, which would borrow the connector's identity;
- a writer that names another process in its own SCM_CREDENTIALS. The kernel lets it if it has
  CAP_SYS_ADMIN over its pid namespace, and everybody has that in a namespace of their own (``unshare
  -Urp``): so a *writer's* credentials alone, SCM_PIDFD included, prove nothing about processes that run
  in there. The *connector* (SO_PEERCRED, SO_PEERPIDFD) can't be chosen;
- re-use of the pid before the message is read: the connector is seen alive after that, so its number was
  nobody else's in between.

What it can't see: an ``exec`` of the writer after it wrote. Whoever releases something must judge all
images that the process ran, not the last one only (transport.protocols).

Descriptors that a peer sends along are refused by the kernel where it can (SO_PASSRIGHTS, Linux 6.16),
never installed where SCM_PIDFD is not used (no room is offered), and closed otherwise.
"""

import array
import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Self

from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.ids import Pid, Uid

# include/uapi/asm-generic/socket.h and include/linux/socket.h; Python 3.11 has no names for them.
_SO_PASSPIDFD = 76
_SO_PEERPIDFD = 77
_SO_PASSRIGHTS = 83
_SCM_PIDFD = 4

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_DESCRIPTOR = struct.Struct("=i")

# numbers: joining named flags takes microseconds each time
_RECEIVE = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_CUT_OFF = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)


class PeerMethod(Enum):
    """How a writer is named, strongest first; ``doctor`` shows the value."""

    SCM_PIDFD = "SCM_PIDFD"
    """Linux 6.5. The kernel hands over a pidfd with each message, and a pidfd of the connector; both must
    be alive and have one number, so they are one process. From Linux 6.9 on (pidfs) one process also has
    one inode; before, all pidfds share one, and that comparison says nothing."""

    SO_PEERPIDFD = "SO_PEERPIDFD"
    """Linux 6.5 too, for sandboxes that refuse the former. The connector is known by pidfd, the writer by
    its number. Does not prove who wrote once the connector is dead; then it refuses."""

    SO_PEERCRED = "SO_PEERCRED+pidfd_open"
    """Before Linux 6.5. Both are known by number, and a pidfd is opened from it at once after ``accept``.
    That does not prove that the process behind it is the one that wrote, which may have ended before: so
    the writer must send a fresh nonce back (one more round trip) and be alive afterwards; the pidfd is older
    than that message, so the number was its process's all the while. What is still not proven, against
    a writer with a pid namespace of its own alone: that the connector did not end, and its number was not
    given to a process in that namespace, between ``connect`` and ``accept``."""

    @property
    def needs_confirmation(self) -> bool:
        """True: ``check_writer`` proves too little by itself; the writer must be challenged."""
        return self is PeerMethod.SO_PEERCRED


class Peer:
    """A process at the other end. Whoever got it closes it; it is a context manager.

    Attributes:
        pidfd: names the process for as long as this is open; -1 once closed.
        uid: its effective user id when it connected; after ``check_writer`` also the real one it writes with.
        pid: its number in our pid namespace, for display.
    """

    def __init__(self, pidfd: int, uid: Uid, pid: Pid) -> None:
        self.pidfd = pidfd
        self.uid = uid
        self.pid = pid

    def is_alive(self) -> bool:
        """Return whether it has not exited; a zombie has."""
        return _is_alive(self.pidfd)

    def close(self) -> None:
        """Close the pidfd; harmless if it is closed."""
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Message(NamedTuple):
    """One message and what the kernel said of its writer; a context manager that closes the pidfd."""

    data: bytes
    pidfd: int
    """Of the writer; negative: none."""
    pid: int
    uid: int
    is_whole: bool
    """False: longer than the reader's buffer, or with more attached than it takes; room for the kernel's own words is
    exact, so descriptors that were sent along show here too."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)


def detect_method() -> PeerMethod:
    """Return the strongest method that the running kernel has."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        try:
            os.close(_peer_pidfd(left))
        except OSError:
            return PeerMethod.SO_PEERCRED
        try:
            left.setsockopt(socket.SOL_SOCKET, _SO_PASSPIDFD, 1)
        except OSError:
            return PeerMethod.SO_PEERPIDFD
        return PeerMethod.SCM_PIDFD


def prepare_listener(listener: socket.socket, method: PeerMethod) -> None:
    """Make the kernel attach the writer to every message of connections that this socket will accept.

    Call it before ``listen``: connections inherit it when they are made, so that a message that was sent
    before ``accept`` names its writer too. One that does not is refused.

    Raises:
        UnavailableError: the kernel does not have the method.
    """
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if method is PeerMethod.SCM_PIDFD:
            listener.setsockopt(socket.SOL_SOCKET, _SO_PASSPIDFD, 1)
    except OSError as error:
        raise UnavailableError(
            f"this kernel can't name the writers of messages by {method.value}: {error.strerror}",
            next_step="agent-broker doctor shows what it can do",
        ) from error
    with contextlib.suppress(OSError):  # older kernels: receive() closes what is sent
        listener.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def open_connector(connection: socket.socket, method: PeerMethod) -> Peer:
    """Return the process that connected; call it at once after ``accept``.

    Raises:
        RefusedError: it has ended, or lives where this pid namespace can't see it.
        UnavailableError: no descriptor is left for it.
    """
    pid, uid = _connector(connection)
    if pid <= 0:
        raise _refusal("the process that connected is not in a pid namespace below the broker's")
    try:
        pidfd = os.pidfd_open(pid) if method is PeerMethod.SO_PEERCRED else _peer_pidfd(connection)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise UnavailableError("the broker has no descriptor left", next_step="try again in a moment") from error
        raise _refusal("the process that connected has ended") from error
    return Peer(pidfd, uid, pid)


def receive(connection: socket.socket, buffer: bytearray, method: PeerMethod) -> Message:
    """Take one message, if one is there; the used part of ``buffer`` is overwritten with zeros again.

    Raises:
        BlockingIOError: none is there.
        ConnectionError: the peer hung up. An empty message counts as that: the two look the same.
    """
    space = socket.CMSG_SPACE(_CREDENTIALS.size)
    if method is PeerMethod.SCM_PIDFD:
        space += socket.CMSG_SPACE(_DESCRIPTOR.size)
    size, attached, seen, _ = connection.recvmsg_into([buffer], space, _RECEIVE)
    pidfd, pid, uid = _take_attached(attached)
    data = bytes(memoryview(buffer)[:size])
    buffer[:size] = bytes(size)
    message = Message(data, pidfd, pid, uid, is_whole=not seen & _CUT_OFF)
    if not size:
        with message:
            raise ConnectionResetError("the peer hung up")
    return message


def check_writer(connector: Peer, message: Message, method: PeerMethod) -> None:
    """Return if the connector wrote this message, as far as ``method`` proves it.

    Raises:
        RefusedError: another process wrote it, the writer has ended, or the kernel did not name it.
    """
    if (message.pid, message.uid) != (connector.pid, connector.uid):
        raise _refusal("the writer of the message is not the process that connected")
    if method is PeerMethod.SCM_PIDFD and message.pidfd < 0:
        raise _refusal("the kernel did not name the writer of the message")
    if not connector.is_alive() or (method is PeerMethod.SCM_PIDFD and not _is_alive(message.pidfd)):
        raise _refusal("the process that asked has ended")
    if method is PeerMethod.SCM_PIDFD and not os.path.sameopenfile(connector.pidfd, message.pidfd):
        raise _refusal("the writer of the message is not the process that connected")


def _connector(connection: socket.socket) -> tuple[Pid, Uid]:
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(packed)
    return Pid(pid), Uid(uid)


def _take_attached(attached: Iterable[tuple[int, int, bytes]]) -> tuple[int, int, int]:
    """Return the writer's pidfd, pid and uid; close descriptors that were sent along."""
    pidfd, pid, uid = -1, 0, -1
    for level, kind, data in attached:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            for descriptor in array.array("i", data[: len(data) - len(data) % _DESCRIPTOR.size]):
                os.close(descriptor)
        elif kind == socket.SCM_CREDENTIALS and len(data) == _CREDENTIALS.size:
            pid, uid, _ = _CREDENTIALS.unpack(data)
        elif kind == _SCM_PIDFD and len(data) == _DESCRIPTOR.size:
            (pidfd,) = _DESCRIPTOR.unpack(data)
    return pidfd, pid, uid


def _peer_pidfd(connection: socket.socket) -> int:
    packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _DESCRIPTOR.size)
    return int(_DESCRIPTOR.unpack(packed)[0])


def _is_alive(pidfd: int) -> bool:
    """A pidfd becomes readable when its process has exited, reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def _refusal(what: str) -> RefusedError:
    return RefusedError("writer", what, next_step="connect and ask from one process, and stay until the answer comes")
