"""The kernel's FUSE protocol: bytes of ``/dev/fuse`` to requests, and answers to bytes. Pure.

Numbers and layouts are those of linux/fuse.h, which the kernel keeps stable; we speak minor version 36. What comes from
here comes from the kernel: lengths are right, names are not (any bytes but NUL and slash).

Not libfuse: of its Python bindings one (mfusepy) can't give two callers two inodes for one name, the other (pyfuse3)
does not say who reads. Both are what this package stands on (docs/adr/0011).
"""

import errno
import os
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from msgspec import Struct

MINOR: Final = 36
MAX_WRITE_BYTES: Final = 128 * 1024
BUFFER_BYTES: Final = MAX_WRITE_BYTES + 8192
"""For any one request: the kernel refuses to hand one over that does not fit."""
ROOT_ID: Final = 1


class Op(IntEnum):
    """``enum fuse_opcode``: those that are looked at here."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    READDIR = 28
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    RENAME2 = 45


NO_ANSWER: Final = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT, Op.DESTROY})

_ATOMIC_O_TRUNC, _BIG_WRITES, _PARALLEL_DIROPS = 1 << 3, 1 << 5, 1 << 18
_MAX_PAGES, _NO_OPENDIR, _INIT_EXT, _REQUEST_TIMEOUT = 1 << 22, 1 << 24, 1 << 30, 1 << 42
"""Not asked for, so that whoever waits for an answer waits in the system call that asked: ASYNC_READ, ASYNC_DIO,
WRITEBACK_CACHE."""
_WANTED = _ATOMIC_O_TRUNC | _BIG_WRITES | _PARALLEL_DIROPS | _MAX_PAGES | _NO_OPENDIR | _INIT_EXT | _REQUEST_TIMEOUT
FOPEN_DIRECT_IO, FOPEN_NOFLUSH = 1, 1 << 5
SET_MODE, SET_SIZE, SET_ATIME, SET_MTIME, SET_FH, SET_ATIME_NOW, SET_MTIME_NOW = 1, 8, 16, 32, 64, 128, 256
RENAME_NOREPLACE: Final = 1

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_INIT_IN = struct.Struct("<IIIII")
_INIT_OUT = struct.Struct("<IIIIHHIIHHIIH22x")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY_HEAD = struct.Struct("<QQQQII")
_ATTR_HEAD = struct.Struct("<QII")
_SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
_OPEN_IN = struct.Struct("<II")
_OPEN_OUT = struct.Struct("<QII")
_CREATE_IN = struct.Struct("<IIII")
_MKDIR_IN = struct.Struct("<II")
_READ_IN = struct.Struct("<QQIIQII")
_WRITE_OUT = struct.Struct("<II")
_FH_IN = struct.Struct("<Q")
_FORGET_ONE = struct.Struct("<QQ")
_RENAME_IN = struct.Struct("<Q")
_RENAME2_IN = struct.Struct("<QII")
_DIRENT = struct.Struct("<QQII")
_STATFS = struct.Struct("<QQQQQIIII24x")
_REQUEST_TIMEOUT_S = 30
"""After which the kernel gives a daemon up that does not answer (6.15 and newer), and every wait on it ends."""
_NS: Final = 1_000_000_000


class Request(Struct, frozen=True):
    """One request; ``body`` is what is behind its header."""

    op: int
    unique: int
    node: int
    uid: int
    """Of the file system's user of who asks (fsuid)."""
    pid: int
    """The *thread* that asks, as the mount's pid namespace numbers it; 0: it is outside of that namespace."""
    body: bytes


class Attr(Struct, frozen=True):
    """What stat says."""

    node: int
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    links: int = 1


class Changes(Struct, frozen=True):
    """What SETATTR changes; None: not."""

    fh: int | None
    size_bytes: int | None
    mode: int | None
    mtime_ns: int | None
    """0: now."""


class Span(Struct, frozen=True):
    """What READ or WRITE is about."""

    fh: int
    offset: int
    size_bytes: int
    flags: int


def decode(data: bytes) -> Request:
    """Return one request as the kernel hands it over."""
    length, op, unique, node, uid, _gid, pid, _extensions, _ = _IN.unpack_from(data)
    return Request(op, unique, node, uid, pid, bytes(data[_IN.size : length]))


def answer(unique: int, body: bytes = b"", error: int = 0) -> bytes:
    """Return an answer; ``error``: an errno, positive, or 0."""
    return _OUT.pack(_OUT.size + len(body), -error, unique) + body


def init_answer(body: bytes) -> bytes:
    """Return the answer to INIT.

    Raises:
        OSError: EPROTO: this kernel speaks another protocol.
    """
    major, minor, readahead, flags, flags2 = _INIT_IN.unpack_from(body.ljust(_INIT_IN.size, b"\0"))
    if major != 7:  # noqa: PLR2004 - the protocol's only version so far
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    offered = flags | (flags2 << 32 if flags & _INIT_EXT else 0)
    taken = offered & _WANTED
    timeout_s = _REQUEST_TIMEOUT_S if taken & _REQUEST_TIMEOUT else 0
    pages = MAX_WRITE_BYTES // 4096
    low, high = taken & 0xFFFFFFFF, taken >> 32
    return _INIT_OUT.pack(
        7, min(minor, MINOR), readahead, low, 16, 12, MAX_WRITE_BYTES, 1, pages, 0, high, 0, timeout_s
    )


def entry(attr: Attr, valid_s: int = 0) -> bytes:
    """Return ``fuse_entry_out``; ``valid_s``: how long the kernel may believe it, 0: it asks each time."""
    return _ENTRY_HEAD.pack(attr.node, 1, valid_s, valid_s, 0, 0) + _attr(attr)


def attributes(attr: Attr, valid_s: int = 0) -> bytes:
    """Return ``fuse_attr_out``."""
    return _ATTR_HEAD.pack(valid_s, 0, 0) + _attr(attr)


def opened(fh: int, *, flush: bool = True) -> bytes:
    """Return ``fuse_open_out``: direct I/O, so that each read and write asks; ``flush``: each close does too."""
    return _OPEN_OUT.pack(fh, FOPEN_DIRECT_IO | (0 if flush else FOPEN_NOFLUSH), 0)


def written(size_bytes: int) -> bytes:
    """Return ``fuse_write_out``."""
    return _WRITE_OUT.pack(size_bytes, 0)


def statfs() -> bytes:
    """Return ``fuse_statfs_out`` of a file system that never is full."""
    return _STATFS.pack(0, 0, 0, 0, 0, 4096, 255, 4096, 0)


def listing(names: Iterable[tuple[int, bytes, int]], offset: int, size_bytes: int) -> bytes:
    """Return READDIR's answer from the ``offset``-th of all entries: node, name, type of each (mode >> 12)."""
    out = b""
    for place, (node, name, kind) in enumerate(names, 1):
        if place <= offset:
            continue
        record = _DIRENT.pack(node, place, len(name), kind) + name
        record += b"\0" * (-len(record) % 8)
        if len(out) + len(record) > size_bytes:
            break
        out += record
    return out


def name_in(body: bytes, start: int = 0) -> bytes:
    """Return the name that ends with NUL and begins at ``start``."""
    return body[start : body.index(b"\0", start)]


def open_flags(body: bytes) -> int:
    """Return the flags of OPEN, those of open(2)."""
    flags, _ = _OPEN_IN.unpack_from(body)
    return int(flags)


def created(body: bytes) -> tuple[int, int, bytes]:
    """Return flags, mode and name of CREATE."""
    flags, mode, umask, _ = _CREATE_IN.unpack_from(body)
    return flags, mode & ~umask & 0o7777, name_in(body, _CREATE_IN.size)


def made(body: bytes) -> tuple[int, bytes]:
    """Return mode and name of MKDIR."""
    mode, umask = _MKDIR_IN.unpack_from(body)
    return mode & ~umask & 0o7777, name_in(body, _MKDIR_IN.size)


def renamed(op: int, body: bytes) -> tuple[int, int, bytes, bytes]:
    """Return the new folder's node, flags, old and new name of RENAME and RENAME2."""
    if op == Op.RENAME2:
        folder, flags, _ = _RENAME2_IN.unpack_from(body)
        start = _RENAME2_IN.size
    else:
        (folder,), flags, start = _RENAME_IN.unpack_from(body), 0, _RENAME_IN.size
    old = name_in(body, start)
    return folder, flags, old, name_in(body, start + len(old) + 1)


def span(body: bytes) -> Span:
    """Return what READ, READDIR or WRITE is about."""
    fh, offset, size_bytes, _, _, flags, _ = _READ_IN.unpack_from(body)
    return Span(fh, offset, size_bytes, flags)


def data_of(body: bytes) -> bytes:
    """Return the bytes that WRITE brings."""
    return body[_READ_IN.size :]


def handle_in(body: bytes) -> int:
    """Return the handle of FLUSH, FSYNC or RELEASE."""
    return int(_FH_IN.unpack_from(body)[0])


def changes(body: bytes) -> Changes:
    """Return what SETATTR changes."""
    valid, _, fh, size_bytes, _, _, mtime, _, _, mtime_ns, _, mode, *_ = _SETATTR.unpack_from(body)
    when = mtime * _NS + mtime_ns if valid & SET_MTIME else None
    return Changes(
        fh=fh if valid & SET_FH else None,
        size_bytes=size_bytes if valid & SET_SIZE else None,
        mode=mode & 0o7777 if valid & SET_MODE else None,
        mtime_ns=0 if valid & SET_MTIME_NOW else when,
    )


def forgotten(request: Request) -> list[tuple[int, int]]:
    """Return the nodes that FORGET or BATCH_FORGET is about, and how many look-ups each ends."""
    if request.op == Op.FORGET:
        return [(request.node, int(_FH_IN.unpack_from(request.body)[0]))]
    return [(node, count) for node, count in _FORGET_ONE.iter_unpack(request.body[8:])]


def _attr(attr: Attr) -> bytes:
    seconds, rest = divmod(attr.mtime_ns, _NS)
    return _ATTR.pack(
        attr.node,
        attr.size_bytes,
        (attr.size_bytes + 511) // 512,
        seconds,
        seconds,
        seconds,
        rest,
        rest,
        rest,
        attr.mode,
        attr.links,
        attr.uid,
        attr.gid,
        0,
        4096,
        0,
    )
