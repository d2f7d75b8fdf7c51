"""Where a path leads now, and since when: without following what its owner may change meanwhile.

An interpreter opens its script some time after its exec, and the monitor looks later still. A user who may write a
folder on the way can put another file there and put the old one back. Moving an entry changes its change time on
the file systems below (measured on ext4 and tmpfs, and nobody but root can set it), so a path none of whose
replaceable components changed since before the exec led to the same place all the time.

A component is replaceable if its folder can be written by anyone but root. Links are resolved as both the kernel and
Node's ``realpath`` do; where the two could differ (``..`` behind another name in a link) the path leads nowhere.
"""

import ctypes
import os
import stat
from typing import ClassVar

from msgspec import Struct

_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40  # as the kernel: include/linux/namei.h, MAXSYMLINKS
_MAX_STEPS = 256
MOVES_CHANGE_TIMES = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0xF2F52010: "f2fs",
    0x794C7630: "overlayfs",
    0x2FC12FC1: "zfs",
}
"""statfs(2) magic of the file systems on which a rename moves the change time of what is renamed."""
USER_MOUNTED = ("fuse", "nfs", "cifs", "smb", "9p", "ceph", "afs")
"""Types of file systems that answer for their files as they like, or can keep the monitor waiting for ever."""


class Resolved(Struct, frozen=True):
    """The end of a path."""

    path: str
    """Without links; empty: it leads to no regular file."""
    newest_ns: int = 0
    """The latest change time of a component that its user could replace; 0: there is none."""
    newest: str = ""
    problem: str = ""
    """Why that can't be told."""


def resolve(path: bytes) -> Resolved:
    """Follow an absolute path to a regular file. May wait for a disk: not for an event loop.

    Raises:
        OSError: a component can't be looked at.
    """
    walk = _Walk(mounted_by_users())
    try:
        return walk.run(path)
    finally:
        walk.close()


def mounted_by_users() -> frozenset[bytes]:
    """Return where file systems are mounted that a user can answer for; they are not touched."""
    found = set()
    with open("/proc/self/mountinfo", "rb") as mounts:  # noqa: PTH123 - no path object on a path that is hot
        for line in mounts:
            fields = line.split(b" ")
            kind = fields[fields.index(b"-") + 1].decode()
            if kind.startswith(USER_MOUNTED):
                found.add(_unescaped(fields[4]))
    return frozenset(found)


def is_covered(path: str, mounted: frozenset[bytes]) -> bool:
    """Tell whether one of these mounts is at, above or below a path."""
    below = os.fsencode(path) + b"/"
    return any(below.startswith(place + b"/") or place.startswith(below) for place in mounted)


def _unescaped(field: bytes) -> bytes:
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(code, char)
    return field


class _Walk:
    """One path, component by component; each folder that was entered is held open."""

    def __init__(self, foreign: frozenset[bytes]) -> None:
        self._foreign = foreign
        self._folders = [os.open("/", _OPEN | os.O_DIRECTORY)]
        self._names: list[bytes] = []
        self._newest = (0, b"")

    def close(self) -> None:
        while self._folders:
            os.close(self._folders.pop())

    def run(self, path: bytes) -> Resolved:
        waiting = path.split(b"/")[1:]
        links = steps = 0
        while waiting:
            steps += 1
            name = waiting.pop(0)
            if name == b"..":
                self._leave()
                continue
            place = b"/" + b"/".join((*self._names, name))
            if place in self._foreign:
                return Resolved("", problem=f"{os.fsdecode(place)} is mounted from what a user can answer for")
            fd = os.open(name, _OPEN, dir_fd=self._folders[-1])
            keep = False
            try:
                facts = self._look(fd, place)
                if stat.S_ISLNK(facts.st_mode):
                    links += 1
                    target = _parts_of(os.readlink(b"", dir_fd=fd))
                    if target is None or links > _MAX_LINKS or steps > _MAX_STEPS:
                        return Resolved("")
                    waiting = target[1] + waiting
                    if target[0]:
                        self._leave(all_of_them=True)
                elif stat.S_ISDIR(facts.st_mode):
                    self._folders.append(fd)
                    self._names.append(name)
                    keep = True
                else:
                    return self._end(place, fd) if stat.S_ISREG(facts.st_mode) and not waiting else Resolved("")
            finally:
                if not keep:
                    os.close(fd)
        return Resolved("")

    def _look(self, fd: int, place: bytes) -> os.stat_result:
        facts = os.fstat(fd)
        folder = os.fstat(self._folders[-1])
        if (folder.st_uid or folder.st_mode & 0o022) and facts.st_ctime_ns > self._newest[0]:
            self._newest = (facts.st_ctime_ns, place)
        return facts

    def _end(self, place: bytes, fd: int) -> Resolved:
        newest_ns, newest = self._newest
        problem = "" if newest_ns == 0 else file_system_problem(fd)
        return Resolved(os.fsdecode(place), newest_ns, os.fsdecode(newest), problem)

    def _leave(self, *, all_of_them: bool = False) -> None:
        """Go up one folder, or to the root."""
        while self._names:
            self._names.pop()
            os.close(self._folders.pop())
            if not all_of_them:
                break


def _parts_of(target: bytes) -> tuple[bool, list[bytes]] | None:
    """Return whether a link's target is absolute, and its components; None: readers could disagree on it."""
    parts = [part for part in target.split(b"/") if part not in {b"", b"."}]
    ups = 0
    while ups < len(parts) and parts[ups] == b"..":
        ups += 1
    return None if b".." in parts[ups:] else (target.startswith(b"/"), parts)


def file_system_problem(fd: int) -> str:
    """Return why the change times of an open file's file system prove nothing; empty: they do."""
    result = _Statfs()
    if _libc.fstatfs(fd, ctypes.byref(result)) != 0:
        return f"its file system is not known ({os.strerror(ctypes.get_errno())})"
    magic = result.f_type & 0xFFFFFFFF
    return "" if magic in MOVES_CHANGE_TIMES else f"its file system (magic {magic:#x}) may not record who moved a file"


class _Statfs(ctypes.Structure):
    """The head of ``struct statfs`` (statfs(2)), whose length differs by machine."""

    _fields_: ClassVar = [("f_type", ctypes.c_long), ("rest", ctypes.c_char * 248)]


_libc = ctypes.CDLL(None, use_errno=True)
