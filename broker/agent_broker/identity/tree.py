"""A folder as it is now: every entry below it, looked at through descriptors, never through a name twice.

A scan guarantees, for what it returns:
1. No link was followed, and no other file system was entered.
2. Every entry was put under watch (``follow``) before it was looked at, so a change after the look is told.
3. A file that somebody had open for writing is named: such a writer can change a page without a new change time
   (measured). The kernel refuses a read lease on it; asking costs some 4 us.
"""

import fcntl
import os
import stat
from collections.abc import Callable

from msgspec import Struct

from agent_broker.errors import MisuseError

MAX_FILES = 100_000
MAX_DEPTH = 64
MAX_BYTES = 2 * 1024**3
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Follow = Callable[[int, bytes], None]
"""Called with a descriptor and the path below the root before the entry is looked at."""


class Entry(Struct, frozen=True, gc=False):
    """One folder, regular file or link. Equal entries: the same unchanged bytes, as far as the file system tells."""

    dev: int
    ino: int
    mode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    target: bytes = b""
    """Of a link."""


class Tree(Struct, frozen=True):
    """Every entry by its path below the root (the root's own is empty), a folder before what is in it."""

    entries: dict[bytes, Entry]
    files: int
    size_bytes: int
    newest_ns: int
    """The latest change time."""
    newest: bytes
    written: tuple[bytes, ...]
    """Files that are open for writing."""


class Bounds(Struct, frozen=True):
    """How much is looked at."""

    files: int = MAX_FILES
    size_bytes: int = MAX_BYTES


def scan_tree(root: str, bounds: Bounds, follow: Follow | None = None) -> Tree:
    """Look at everything below a folder, or at one file. May wait for a disk: not for an event loop.

    Raises:
        MisuseError: it holds a special file or another file system, or exceeds the bounds.
        OSError: something can't be read, or changed its kind meanwhile.
    """
    scan = _Scan(bounds, follow)
    fd = open_root(root)
    try:
        scan.root(fd)
    finally:
        os.close(fd)
    newest, entry = max(scan.entries.items(), key=lambda item: item[1].ctime_ns)
    return Tree(scan.entries, scan.files, scan.size_bytes, entry.ctime_ns, newest, tuple(scan.written))


def open_root(root: str) -> int:
    """Open the root of a tree for reading: a folder, or the only file.

    Raises:
        OSError: it is not there, or a link.
    """
    return os.open(root, _FILE)


def open_in(root_fd: int, path: bytes) -> int:
    """Open a regular file of a tree for reading, without following a link on the way.

    Raises:
        OSError: it is not there, or a link is on the way.
    """
    if not path:
        return os.dup(root_fd)
    *folders, name = path.split(b"/")
    fd = os.dup(root_fd)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        return os.open(name, _FILE, dir_fd=fd)
    finally:
        os.close(fd)


def open_below(root: str, path: bytes) -> int:
    """Open a regular file of a tree: see open_root and open_in."""
    root_fd = open_root(root)
    try:
        return open_in(root_fd, path)
    finally:
        os.close(root_fd)


def path_in(root: str, path: str) -> bytes:
    """Return the path of a file below a root, as a tree names it."""
    return b"" if path == root else os.fsencode(os.path.relpath(path, root))


def has_writer(fd: int) -> bool:
    """Tell whether anybody has a regular file, open here for reading only, open for writing or mapped writable.

    Needs CAP_LEASE for another user's file.

    Raises:
        OSError: the file system gives no leases.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


class _Scan:
    def __init__(self, bounds: Bounds, follow: Follow | None) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.files = 0
        self.size_bytes = 0
        self.written: list[bytes] = []
        self._bounds = bounds
        self._follow = follow
        self._dev = 0

    def root(self, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            self.folder(fd, b"", 0)
        elif stat.S_ISREG(mode):
            self._add(fd, b"")
        else:
            raise MisuseError("the package is a special file")

    def folder(self, fd: int, path: bytes, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise MisuseError(f"the package is deeper than {MAX_DEPTH} folders")
        self._add(fd, path)
        with os.scandir(fd) as listing:
            names = [os.fsencode(entry.name) for entry in listing]
        for name in names:
            self._entry(fd, name, path + b"/" + name if path else name, depth)

    def _entry(self, folder_fd: int, name: bytes, path: bytes, depth: int) -> None:
        mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
        elif stat.S_ISDIR(mode):
            fd = os.open(name, _FOLDER, dir_fd=folder_fd)
        elif stat.S_ISREG(mode):
            fd = os.open(name, _FILE, dir_fd=folder_fd)
        else:
            raise MisuseError(f"the package holds a special file: {os.fsdecode(path)}")
        try:
            if stat.S_ISDIR(mode):
                self.folder(fd, path, depth + 1)
            else:
                self._add(fd, path)
        finally:
            os.close(fd)

    def _add(self, fd: int, path: bytes) -> None:
        if self._follow is not None:
            self._follow(fd, path)
        facts = os.fstat(fd)
        target = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(facts.st_mode) else b""
        if stat.S_ISREG(facts.st_mode):
            self.size_bytes += facts.st_size
            if has_writer(fd):
                self.written.append(path)
        if not stat.S_ISDIR(facts.st_mode):
            self.files += 1
        self._dev = self._dev or facts.st_dev
        if facts.st_dev != self._dev:
            raise MisuseError(f"another file system is mounted in the package: {os.fsdecode(path)}")
        if self.files > self._bounds.files or self.size_bytes > self._bounds.size_bytes:
            raise MisuseError(f"it has more than {self._bounds.files} files, or {self._bounds.size_bytes} bytes")
        self.entries[path] = Entry(
            facts.st_dev, facts.st_ino, facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, target
        )
