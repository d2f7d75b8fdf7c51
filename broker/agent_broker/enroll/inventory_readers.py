"""Who can read a file, by mode, ACL, and the folders on the way. Opens nothing that a watch could see.

It says what the file system grants: not what a container, a mandatory policy or a mount of somebody else's adds.
"""

import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from agent_broker.enroll.beneath import open_beneath
from agent_broker.enroll.inventory_protocol import Readers

_ACL = "system.posix_acl_access"
_ENTRY = struct.Struct("<HHI")  # linux/posix_acl_xattr.h: tag, permissions, id; behind a version of four bytes
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_READ = 4
_MAX_ENTRIES = 64


@dataclass(frozen=True)
class _Way:
    """What the folders on the way let through."""

    everybody: bool = True
    groups: frozenset[int] | None = None
    """None: whoever is in any group, since everybody passes."""

    def through(self, mode: int, gid: int) -> "_Way":
        if mode & stat.S_IXOTH:
            return self
        members = frozenset({gid}) if mode & stat.S_IXGRP else frozenset()
        return _Way(everybody=False, groups=members if self.groups is None else self.groups & members)

    def lets_group(self, gid: int) -> bool:
        return self.groups is None or gid in self.groups


@dataclass
class ReadersOf:
    """Answers for the files of one home; remembers its folders."""

    home_fd: int
    home: str
    _ways: dict[str, _Way] = field(default_factory=dict)

    def __call__(self, folder: str, folder_fd: int, name: str, facts: os.stat_result) -> Readers:
        """Return who besides owner and root can read a file.

        Args:
            folder: its folder, relative to the home.
            folder_fd: the same, open.
            name: of the file.
            facts: of the file.
        """
        way = self._way(folder)
        entries = _acl_of(folder_fd, name)
        if entries is None:
            groups: tuple[int, ...] = (
                (facts.st_gid,) if facts.st_mode & stat.S_IRGRP and way.lets_group(facts.st_gid) else ()
            )
            users: tuple[int, ...] = ()
        else:
            groups, users = self._by_acl(entries, facts.st_gid, way)
        return Readers(bool(facts.st_mode & stat.S_IROTH) and way.everybody, groups, users)

    @staticmethod
    def _by_acl(entries: list[tuple[int, int, int]], gid: int, way: _Way) -> tuple[tuple[int, ...], tuple[int, ...]]:
        mask = next((allowed for tag, allowed, _ in entries if tag == _MASK), 7)
        reading = [(tag, who) for tag, allowed, who in entries if allowed & mask & _READ]
        groups = [gid if tag == _GROUP_OBJ else who for tag, who in reading if tag in {_GROUP_OBJ, _GROUP}]
        users = tuple(who for tag, who in reading if tag == _USER and way.everybody)
        return tuple(each for each in dict.fromkeys(groups) if way.lets_group(each)), users

    def _way(self, folder: str) -> _Way:
        if folder not in self._ways:
            if folder in {"", "."}:
                self._ways[folder] = self._to_home()
            else:
                parent = self._way(str(PurePosixPath(folder).parent))
                self._ways[folder] = _through(parent, lambda: open_beneath(self.home_fd, folder, os.O_PATH))
        return self._ways[folder]

    def _to_home(self) -> _Way:
        way = _Way()
        for place in reversed((PurePosixPath(self.home), *PurePosixPath(self.home).parents)):
            way = _through(way, lambda place=place: os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC))  # type: ignore[misc]
        return way


def _through(way: _Way, opened: Callable[[], int]) -> _Way:
    try:
        fd = opened()
    except OSError:  # display only: what can't be looked at lets nobody through who is not let through already
        return _Way(everybody=False, groups=frozenset())
    try:
        facts = os.fstat(fd)
        return way.through(facts.st_mode, facts.st_gid)
    finally:
        os.close(fd)


def _acl_of(folder_fd: int, name: str) -> list[tuple[int, int, int]] | None:
    """Return the entries of a file's ACL; None: it has none beyond its mode.

    By the working folder, since a process that can't be traced may not use its own /proc/self/fd.
    """
    try:
        os.fchdir(folder_fd)
        raw = os.getxattr(name, _ACL, follow_symlinks=False)
    except OSError:
        return None
    body = raw[4 : 4 + _MAX_ENTRIES * _ENTRY.size]
    return list(_ENTRY.iter_unpack(body[: len(body) // _ENTRY.size * _ENTRY.size]))
