"""fanotify, as far as the decoy watch needs it: groups, marks on inodes, events as the kernel sends them.

What is guaranteed:

1. A mark is put on the inode behind a descriptor (through ``/proc/self/fd``), never on a name: nothing is followed
   or looked up a second time. The descriptor may be O_PATH, so setting a mark never opens the file and never raises
   an event of its own.
2. Every descriptor of a decoded event belongs to the caller, who closes it.
3. Nothing here blocks, but ``read_opens`` of a group that was not made with FAN_NONBLOCK.

What the kernel guarantees, and what it does not: closing a group (or the death of its process, however) lets every
opener that still waits for an answer go on, with the open *allowed*. So a permission mark guards decoys, never a
real secret. A process that opens an inode that it marked itself waits for itself, unless another thread answers.

Numbers and layouts: include/uapi/linux/fanotify.h, include/uapi/linux/fcntl.h.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from agent_broker.errors import IntegrityError, UnavailableError

# fanotify_init
FAN_CLOEXEC = 0x00000001
FAN_NONBLOCK = 0x00000002
FAN_CLASS_NOTIF = 0x00000000
FAN_CLASS_CONTENT = 0x00000004
FAN_UNLIMITED_QUEUE = 0x00000010
FAN_UNLIMITED_MARKS = 0x00000020
FAN_REPORT_PIDFD = 0x00000080  # since Linux 5.15
FAN_REPORT_FID = 0x00000200
FAN_REPORT_DIR_FID = 0x00000400
FAN_REPORT_NAME = 0x00000800
FAN_REPORT_TARGET_FID = 0x00001000  # since Linux 5.17: events of a folder's entries name the entry's inode too

# fanotify_mark
FAN_MARK_ADD = 0x00000001
FAN_MARK_REMOVE = 0x00000002

# events
FAN_MODIFY = 0x00000002
FAN_ATTRIB = 0x00000004
FAN_CLOSE_WRITE = 0x00000008
FAN_OPEN = 0x00000020
FAN_MOVED_FROM = 0x00000040
FAN_MOVED_TO = 0x00000080
FAN_CREATE = 0x00000100
FAN_DELETE = 0x00000200
FAN_DELETE_SELF = 0x00000400
FAN_MOVE_SELF = 0x00000800
FAN_Q_OVERFLOW = 0x00004000
FAN_OPEN_PERM = 0x00010000
FAN_EVENT_ON_CHILD = 0x08000000
FAN_ONDIR = 0x40000000

# answers
FAN_ALLOW = 0x01
FAN_DENY = 0x02

FAN_NOFD = -1
"""No descriptor in the event; as a pidfd: the process has ended and was reaped (-2: it could not be made)."""

_METADATA_VERSION = 3
_METADATA = struct.Struct("=IBBHQii")  # event_len, vers, reserved, metadata_len, mask, fd, pid
_INFO_HEADER = struct.Struct("=BBH")  # info_type, pad, len
_OPEN_WITH_PIDFD = struct.Struct("=IBBHQiiBBHi")  # metadata and one pidfd record: what an open event is
_RESPONSE = struct.Struct("=iI")  # fd, response
_INFO_FID = 1
_INFO_DFID_NAME = 2
_INFO_DFID = 3
_INFO_PIDFD = 4

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_HANDLE_FID = 0x200  # since Linux 6.5: also where handles can't be opened again (overlayfs)
_MAX_HANDLE_BYTES = 128  # MAX_HANDLE_SZ

_READ_BYTES = 256  # 8 open events: each holds two descriptors until it was answered
_CHANGES_READ_BYTES = 64 * 1024

FileKey = bytes
"""fsid, handle type and handle of an inode: equal keys, same inode, re-used inode numbers told apart."""

OpenEvent = tuple[int, int, int, int]
"""mask, descriptor of the opened file, pid, pidfd (negative: none). A bare tuple: the opener waits meanwhile."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a directory, or of a file in it, that was marked for changes."""

    mask: int
    pid: int
    pidfd: int
    """Negative: the process ended before the event was read. Otherwise the caller closes it."""
    directory: FileKey
    """Of the directory that holds ``name``; empty if the event has none."""
    name: bytes
    """The entry's name; ``.`` for an event of the directory itself."""
    inode: FileKey
    """Of the marked inode itself, for events that are not about a directory's entry; else empty."""


class _FileHandle(ctypes.Structure):
    """``struct file_handle`` with room for the largest handle."""

    _fields_: ClassVar = [
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("f_handle", ctypes.c_ubyte * _MAX_HANDLE_BYTES),
    ]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_init.argtypes = [ctypes.c_uint, ctypes.c_uint]
_libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
_libc.name_to_handle_at.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_FileHandle),
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
]


class Group:
    """One fanotify group: a queue of events and the marks that feed it."""

    def __init__(self, flags: int) -> None:
        """Make a group; FAN_CLOEXEC and FAN_UNLIMITED_MARKS are added to ``flags``.

        Raises:
            UnavailableError: the kernel refuses it: no CAP_SYS_ADMIN, or too old for one of the flags.
        """
        # The second flag lifts fs.fanotify.max_user_marks, which counts the marks of root's other programs too.
        always = FAN_CLOEXEC | FAN_UNLIMITED_MARKS
        fd = _libc.fanotify_init(flags | always, os.O_RDONLY | os.O_CLOEXEC)
        if fd < 0:
            _raise_unavailable("fanotify_init")
        self.fd: int = fd

    def mark(self, fd: int, mask: int) -> None:
        """Mark the inode behind ``fd`` (O_PATH is enough); adding twice is fine.

        Raises:
            UnavailableError: the file system, or the kernel, does not do this kind of event.
        """
        self._mark(FAN_MARK_ADD, fd, mask)

    def unmark(self, fd: int, mask: int) -> None:
        """Remove events from the mark of the inode behind ``fd``; a missing mark is fine.

        Raises:
            UnavailableError: the kernel refuses.
        """
        try:
            self._mark(FAN_MARK_REMOVE, fd, mask)
        except UnavailableError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise

    def read_opens(self) -> list[OpenEvent]:
        """Wait for open events, and return up to 8. An overflow is an event without a descriptor.

        Raises:
            OSError: EMFILE, and the like: the opener was refused by the kernel, since we could not get a descriptor.
            IntegrityError: not the event layout that this module knows.
        """
        return decode_opens(os.read(self.fd, _READ_BYTES))

    def read_changes(self) -> list[Change]:
        """Return the next events of marked directories; none if the queue is empty.

        Raises:
            OSError: the queue can't be read.
            IntegrityError: not the event layout that this module knows.
        """
        try:
            return list(decode_changes(os.read(self.fd, _CHANGES_READ_BYTES)))
        except BlockingIOError:
            return []

    def answer(self, event_fd: int, response: int) -> None:
        """Let the opener go on (FAN_ALLOW) or fail with EPERM (FAN_DENY); one that was killed meanwhile is fine."""
        try:
            os.write(self.fd, _RESPONSE.pack(event_fd, response))
        except FileNotFoundError:
            return

    def allow_all(self, event_fds: Sequence[int]) -> None:
        """Let several openers go on, in one call; those that were killed meanwhile are fine.

        One right behind the other, before whoever was woken runs: an answer wakes all who wait, since the kernel keeps
        them in one queue, and whoever is not answered yet goes to sleep again. The kernel takes one answer in each
        element of a vector (fanotify_write in fs/notify/fanotify/fanotify_user.c, do_loop_readv_writev).
        """
        answers = [_RESPONSE.pack(event_fd, FAN_ALLOW) for event_fd in event_fds]
        while answers:
            try:
                answered = os.writev(self.fd, answers) // _RESPONSE.size
            except FileNotFoundError:
                answered = 1  # the first one's opener waits no longer
            answers = answers[answered:]

    def close(self) -> None:
        """Remove all marks; who still waits for an answer goes on, allowed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _mark(self, flags: int, fd: int, mask: int) -> None:
        if _libc.fanotify_mark(self.fd, flags, mask, _AT_FDCWD, b"/proc/self/fd/%d" % fd) != 0:
            _raise_unavailable("fanotify_mark")


def decode_opens(buffer: bytes) -> list[OpenEvent]:
    """Decode the events of a FAN_REPORT_PIDFD group.

    Raises:
        IntegrityError: not metadata version 3 with one pidfd record an event.
    """
    events: list[OpenEvent] = []
    offset = 0
    try:
        while offset < len(buffer):
            size, version, _, _, mask, fd, pid, info, _, _, pidfd = _OPEN_WITH_PIDFD.unpack_from(buffer, offset)
            if version != _METADATA_VERSION or info != _INFO_PIDFD or size < _OPEN_WITH_PIDFD.size:
                raise _layout_error()
            events.append((mask, fd, pid, pidfd))
            offset += size
    except struct.error as error:
        raise _layout_error() from error
    return events


def decode_changes(buffer: bytes) -> Iterator[Change]:
    """Decode the events of a FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_PIDFD group.

    Raises:
        IntegrityError: a layout that this module does not know.
    """
    offset = 0
    while offset < len(buffer):
        try:
            size, version, _, metadata_len, mask, _, pid = _METADATA.unpack_from(buffer, offset)
        except struct.error as error:
            raise _layout_error() from error
        if version != _METADATA_VERSION or not _METADATA.size <= metadata_len <= size <= len(buffer) - offset:
            raise _layout_error()
        yield _decode_change(mask, pid, buffer[offset + metadata_len : offset + size])
        offset += size


def _decode_change(mask: int, pid: int, records: bytes) -> Change:
    pidfd, directory, name, inode = FAN_NOFD, b"", b"", b""
    offset = 0
    while offset + _INFO_HEADER.size <= len(records):
        info, _, size = _INFO_HEADER.unpack_from(records, offset)
        body = records[offset + _INFO_HEADER.size : offset + size]
        if size < _INFO_HEADER.size:
            raise _layout_error()
        if info == _INFO_PIDFD:
            pidfd = int.from_bytes(body[:4], sys.byteorder, signed=True)
        elif info in (_INFO_DFID_NAME, _INFO_DFID):
            directory, rest = _split_fid(body)
            name = rest.split(b"\0", 1)[0]
        elif info == _INFO_FID:
            inode, _ = _split_fid(body)
        offset += size
    return Change(mask=mask, pid=pid, pidfd=pidfd, directory=directory, name=name, inode=inode)


def _split_fid(body: bytes) -> tuple[FileKey, bytes]:
    """Return the key of an info record (fsid, handle_bytes, handle_type, handle) and what follows it."""
    end = 16 + int.from_bytes(body[8:12], sys.byteorder)
    return body[:end], body[end:]


def file_key(fd: int) -> FileKey | None:
    """Return the key under which events name the inode behind ``fd`` (O_PATH is enough).

    None: its file system has no file handles, so that it can't be marked for changes either.
    """
    handle = _FileHandle()
    mount = ctypes.c_int()
    for flags in (_AT_EMPTY_PATH | _AT_HANDLE_FID, _AT_EMPTY_PATH):
        handle.handle_bytes = _MAX_HANDLE_BYTES
        if _libc.name_to_handle_at(fd, b"", ctypes.byref(handle), ctypes.byref(mount), flags) == 0:
            fsid = os.fstatvfs(fd).f_fsid.to_bytes(8, sys.byteorder)
            return fsid + bytes(handle)[: 8 + handle.handle_bytes]
    return None


def _layout_error() -> IntegrityError:
    return IntegrityError(
        "the kernel's fanotify events have a layout that this version does not know",
        next_step="report the kernel's version (uname -r)",
    )


def _raise_unavailable(call: str) -> NoReturn:
    number = ctypes.get_errno()
    reason = os.strerror(number)
    next_step = {
        errno.EPERM: "the monitor needs CAP_SYS_ADMIN",
        errno.EINVAL: "this kernel lacks it: Linux 5.15 or newer with CONFIG_FANOTIFY_ACCESS_PERMISSIONS is needed",
        errno.ENODEV: "this file system reports no file ids",
        errno.EOPNOTSUPP: "this file system reports no file ids",
    }.get(number, "")
    raise UnavailableError(f"{call}: {reason}", next_step=next_step) from OSError(number, reason)
