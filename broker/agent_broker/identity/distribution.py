"""Which package of the distribution an executable belongs to, and whether it still is what the package brought.

The law:
1. Only a regular file that belongs to root and that nobody else may write is looked for; any other is nobody's.
2. The path only says where to look. The file that lies there must have the facts that the kernel recorded of the
   executable (size, times, mode, inode), before and after it is read; so a file of the same name elsewhere (in a
   container, a chroot, a user's mount) is nobody's.
3. ``intact`` means: its bytes have the checksum that the package recorded. Those are MD5 for dpkg: they tell damage and
   replacement, since whoever could make two files of one checksum must have built the package. A file of which the
   package recorded no checksum (a configuration file) is not intact.

The databases are root's. dpkg's lists are read once into an index of 8 bytes a path, and again when their folder
changed. A search may wait for a disk: never in an event loop. ``known`` answers at once from what was found before.
"""

import hashlib
import os
import stat
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.identity import rpm
from agent_broker.kernel.events import FileFacts

_MAX_KNOWN = 2048
_MAX_HASHED_BYTES = 1 << 30
_OVERLAYFS = 0x794C7630  # linux/magic.h; the kernel's inode number there is not always stat's
_NO_PROGRAMS = (b"/usr/share/doc/", b"/usr/share/man/", b"/usr/share/locale/", b"/usr/include/", b"/usr/src/")
_HASH_BITS = 48
_PACKAGE_BITS = 16
_MERGED = ("/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/")
"""Folders that a merged system has in /usr while packages still name files in them (Debian 12: coreutils' /bin/cat)."""


class Package(Struct, frozen=True):
    """What owns an executable."""

    name: str
    version: str
    intact: bool
    """The file has the checksum that the package recorded."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}" + ("" if self.intact else ", changed since it was installed")


class Distribution:
    """See the module. Thread-safe; one search at a time."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Use the databases below a root folder; which are there is seen at each search."""
        self._root = root
        self._dpkg = _Dpkg(root)
        self._known: OrderedDict[tuple[str, FileFacts], Package | None] = OrderedDict()
        self._stamp: tuple[int, ...] = ()
        self._lock = threading.Lock()

    @property
    def stamp(self) -> tuple[int, ...]:
        """What was installed when it was last searched: with another one, what was found before is forgotten."""
        return self._stamp

    def known(self, path: str, facts: FileFacts) -> tuple[Package | None] | None:
        """Return what was found before, in a tuple; None: it was not searched. At once."""
        if not _is_roots(facts):
            return (None,)
        try:
            return (self._known[path, facts],)
        except KeyError:
            return None

    def owner_of(self, path: str, facts: FileFacts) -> Package | None:
        """Return the package that owns an executable; None: no package does, or the file is not the one at ``path``.

        Args:
            path: absolute, without links, as /proc/PID/exe tells it.
            facts: what the kernel recorded of the file.

        May take a tenth of a second; not for an event loop. Raises nothing: what can't be read is owned by nobody.
        """
        if not _is_roots(facts) or not path.startswith("/"):
            return None
        with self._lock:
            stamp = (*self._dpkg.stamp(), *rpm.stamp(self._root))
            if stamp != self._stamp:
                self._known.clear()
                self._stamp = stamp
            key = (path, facts)
            if key not in self._known:
                self._known[key] = self._search(path, facts)
                while len(self._known) > _MAX_KNOWN:
                    self._known.popitem(last=False)
            return self._known[key]

    def _search(self, path: str, facts: FileFacts) -> Package | None:
        try:
            fd = os.open(self._root / path[1:], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return None
        try:
            if not _is_that(fd, facts) or facts.size_bytes > _MAX_HASHED_BYTES:
                return None
            found = self._dpkg.search(path, fd) or self._search_rpm(path, fd)
            return found if _is_that(fd, facts) else None
        except OSError:
            return None
        finally:
            os.close(fd)

    def _search_rpm(self, path: str, fd: int) -> Package | None:
        try:
            owner = rpm.owner_of(self._root, path)
        except UnavailableError:
            return None
        if owner is None:
            return None
        name, version, algorithm, digest = owner
        return Package(name, version, bool(algorithm) and _digest(fd, algorithm) == digest)


class _Dpkg:
    """dpkg's database: which package lists a path, and the checksum that it recorded."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "var/lib/dpkg"
        self._root = root
        self._built: tuple[int, ...] = ()
        self._names: list[str] = []
        self._paths = array("Q")
        self._moved: dict[str, tuple[str, str]] = {}
        self._diverted_by: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when packages are installed or removed; empty: there is no dpkg here."""
        try:
            return ((self._folder / "info").stat().st_mtime_ns, (self._folder / "status").stat().st_mtime_ns)
        except OSError:
            return ()

    def search(self, path: str, fd: int) -> Package | None:
        """Return the package of the file at a path, which ``fd`` reads.

        Raises:
            OSError: the database or the file can't be read.
        """
        stamp = self.stamp()
        if not stamp:
            return None
        if stamp != self._built:
            self._build()
            self._built = stamp
        for name in self._spellings(path):
            original, other = self._moved.get(name, (name, ""))  # its package lists it under the original name,
            only = self._diverted_by.get(name, "")  # under which whoever diverted it has a file of its own
            for package in self._listed(original):
                if package == other or only not in {"", package.partition(":")[0]}:
                    continue
                intact = self._recorded(package, original) == _digest(fd, "md5")
                return Package(package.partition(":")[0], self._versions.get(package, ""), intact)
        return None

    def _spellings(self, path: str) -> Iterator[str]:
        yield path
        short = path.removeprefix("/usr")
        if short != path and short.startswith(_MERGED) and (self._root / short[1:].partition("/")[0]).is_symlink():
            yield short

    def _listed(self, path: str) -> Iterator[str]:
        """Yield the packages that list a path."""
        raw = os.fsencode(path)
        low = _key(raw, 0)
        index = bisect_left(self._paths, low)
        while index < len(self._paths) and self._paths[index] >> _PACKAGE_BITS == low >> _PACKAGE_BITS:
            name = self._names[self._paths[index] & ((1 << _PACKAGE_BITS) - 1)]
            if raw in (self._folder / "info" / f"{name}.list").read_bytes().split(b"\n"):
                yield name
            index += 1

    def _recorded(self, package: str, path: str) -> str:
        """Return the checksum that a package recorded of a path; empty: none."""
        ending = b"  " + os.fsencode(path)[1:]
        try:
            lines = (self._folder / "info" / f"{package}.md5sums").read_bytes().split(b"\n")
        except FileNotFoundError:
            return ""
        return next((line[: -len(ending)].decode("ascii", "replace") for line in lines if line.endswith(ending)), "")

    def _build(self) -> None:
        lists = sorted((self._folder / "info").glob("*.list"))[: 1 << _PACKAGE_BITS]
        found: list[int] = []
        for number, each in enumerate(lists):
            lines = each.read_bytes().split(b"\n")
            found += [_key(line, number) for line in lines if not line.startswith(_NO_PROGRAMS)]
        found.sort()
        self._paths = array("Q", found)
        self._names = [each.name.removesuffix(".list") for each in lists]
        self._versions = dict(_versions((self._folder / "status").read_bytes()))
        self._moved = dict(_diversions(self._folder / "diversions"))
        self._diverted_by = dict(self._moved.values())


def _key(path: bytes, package: int) -> int:
    return (hash(path) & ((1 << _HASH_BITS) - 1)) << _PACKAGE_BITS | package


def _versions(status: bytes) -> Iterator[tuple[str, str]]:
    """Yield (name as in info/, version) of each installed package; deb822, as dpkg writes it."""
    for paragraph in status.split(b"\n\n"):
        fields = dict(
            line.partition(b": ")[::2]
            for line in paragraph.split(b"\n")
            if line.startswith((b"Package: ", b"Version: ", b"Architecture: "))
        )
        name = fields.get(b"Package", b"").decode("ascii", "replace")
        version = fields.get(b"Version", b"").decode("ascii", "replace")
        yield name, version
        yield f"{name}:{fields.get(b'Architecture', b'').decode('ascii', 'replace')}", version


def _diversions(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (where the file is now, (the name that its package lists, who diverted it)); dpkg-divert(1)."""
    try:
        lines = os.fsdecode(path.read_bytes()).split("\n")
    except FileNotFoundError:
        return
    for index in range(0, len(lines) - 2, 3):
        original, moved, by = lines[index : index + 3]
        yield moved, (original, by)


def _is_roots(facts: FileFacts) -> bool:
    return facts.owner_uid == 0 and stat.S_ISREG(facts.mode) and not facts.mode & 0o022 and facts.nlink > 0


def _is_that(fd: int, facts: FileFacts) -> bool:
    """Tell whether an open file has the kernel's facts, as far as stat tells them (its device number may differ)."""
    now = os.fstat(fd)
    same = (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_mode, now.st_uid)
    if same != (facts.size_bytes, facts.mtime_ns, facts.ctime_ns, facts.mode, facts.owner_uid):
        return False
    return now.st_ino == facts.ino or facts.fs_magic == _OVERLAYFS


def _digest(fd: int, algorithm: str) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
