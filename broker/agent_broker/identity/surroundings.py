"""What is around an interpreted agent's package: the way to it, and where its interpreter looks for what it lacks.

The package is hashed and watched (identity.package); that is not all that decides what its interpreter loads. It loads
some files late, by their full path, and the modules that the package lacks from folders above it (identity.wanted).
So, for as long as an agent runs, nothing may happen to:

1. the entries that lead to the package, in every folder that anyone but root can write;
2. the places of the modules that it asks for and does not hold: there must be none when it starts, and none may come.

Folders are watched before they are looked at, by the names of their entries, so that what is put there and taken away
again is told too. What is not told (a queue that overflowed, a folder that can't be watched) counts as a change.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.resolution import is_covered, mounted_by_users

_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOKS = 3
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

Ways = dict[bytes, "Ways"]
"""A tree of names below ``/``; the end of a path has none below it."""


class NameWatch(Protocol):
    """Who tells what happens to the entries of folders (monitor.name_watch)."""

    def follow(self, fd: int) -> bytes:
        """Watch the entries of the folder behind a descriptor; return its key in what ``take`` returns. Thread-safe.

        Raises:
            AgentBrokerError: it can't be watched.
        """
        ...

    def take(self) -> Iterable[tuple[bytes, bytes]] | None:
        """Return (folder's key, entry's name) of each change since the last call; None: some were lost."""
        ...

    def close(self) -> None:
        """Watch nothing any more."""
        ...


class Look(Struct):
    """What a walk found."""

    entries: set[tuple[bytes, bytes]]
    """Of the watched folders: (key, name) of the entries that matter."""
    present: str = ""
    """A place that should be empty, and is not."""
    problem: str = ""
    """Why not everything could be watched."""


class Surroundings:
    """Of one package. Lives in the monitor's event loop; looks in threads.

    Attributes:
        version: counts what was noticed; what was judged with another one is judged again.
        changed_ns: CLOCK_BOOTTIME when a change was last noticed, or since when it is watched.
        changed: what it was, a clause; never empty.
        watched_ns: CLOCK_BOOTTIME since when it is watched.
        present: a module that lies where there must be none; empty: there is none.
        problem: why not everything could be watched, or looked at; empty: it could.
    """

    def __init__(
        self, root: str, places: Iterable[str], follow: Callable[[int], bytes], boottime_ns: Callable[[], int]
    ) -> None:
        """Know nothing yet.

        Args:
            root: of the package, resolved.
            places: where nothing may be.
            follow: watches a folder (NameWatch.follow).
            boottime_ns: CLOCK_BOOTTIME.
        """
        self._places = frozenset(os.fsencode(each) for each in places)
        self._folders = frozenset({root, *(os.fsdecode(each.rpartition(b"/")[0]) for each in self._places)})
        self._ways = _ways_of((os.fsencode(root), *self._places))
        self._follow = follow
        self._boottime_ns = boottime_ns
        self._entries: set[tuple[bytes, bytes]] = set()
        self._stale = True
        self._is_watched = False
        self._looking = asyncio.Lock()
        self.version = 0
        self.changed_ns = self.watched_ns = boottime_ns()
        self.changed = "it was started before the folders above its package were watched"
        self.present = ""
        self.problem = ""

    @property
    def is_current(self) -> bool:
        """Whether nothing happened since the last look."""
        return not self._stale

    def note(self, key: bytes, name: bytes) -> None:
        """Take that an entry of a folder was made, removed or moved."""
        if (key, name) in self._entries:
            self._changed(f"{os.fsdecode(name)!a}, above its package, was made, moved or removed while it ran")

    def note_loss(self) -> None:
        """Take that anything may have happened."""
        self._changed("changes in the folders above its package were lost while it ran")

    def note_mounts(self, mounted: frozenset[bytes]) -> None:
        """Take that the mounts changed; ``mounted``: what users can answer for, before and after."""
        if any(is_covered(folder, mounted) for folder in self._folders):
            self._changed("a file system that a user can answer for was mounted above its package while it ran")

    async def look(self) -> None:
        """Look at all of it, if anything happened; until nothing does meanwhile (bounded)."""
        async with self._looking:
            for first in (True, *[False] * (_LOOKS - 1)):
                if not self._stale and not (self.problem and first):
                    return
                self._stale = False
                self._take(await asyncio.to_thread(look_around, self._ways, self._places, self._follow))

    def _take(self, found: Look) -> None:
        self.version += 1
        if not self._is_watched:
            self._is_watched = True
            self.changed_ns = self.watched_ns = self._boottime_ns()
        elif found.entries - self._entries:  # what was in it before it was watched, nobody knows
            self.changed_ns = self._boottime_ns()
            self.changed = "a folder in which it looks for modules that its package lacks was made while it ran"
        self._entries = found.entries
        self.present, self.problem = found.present, found.problem

    def taints(self, exec_ns: int) -> tuple[str, ...]:
        """Return what speaks against a program that was started at ``exec_ns`` (CLOCK_BOOTTIME)."""
        taints = []
        if self.present:
            taints.append(
                f"a module that its package asks for and lacks was put where it is looked for: {self.present}"
            )
        if self.problem:
            taints.append(self.problem)
        if self.changed_ns >= exec_ns:
            taints.append(self.changed)
        return tuple(taints)

    def _changed(self, what: str) -> None:
        self.version += 1
        self.changed_ns, self.changed, self._stale = self._boottime_ns(), what, True


def look_around(ways: Ways, places: frozenset[bytes], follow: Callable[[int], bytes]) -> Look:
    """Walk all ways without following a link; watch each folder that others than root can write before looking into it.

    Args:
        ways: where to go.
        places: where nothing may be.
        follow: watches a folder.
    """
    look = Look(set())
    foreign = mounted_by_users()
    fd = os.open("/", _OPEN | os.O_DIRECTORY)
    try:
        _walk(fd, b"", ways, _Around(places, follow, foreign, look))
    finally:
        os.close(fd)
    return look


class _Around(Struct):
    places: frozenset[bytes]
    follow: Callable[[int], bytes]
    foreign: frozenset[bytes]
    look: Look


def _walk(fd: int, path: bytes, ways: Ways, around: _Around) -> None:
    facts = os.fstat(fd)
    if facts.st_uid or facts.st_mode & _WRITABLE_BY_OTHERS:
        try:
            key = around.follow(fd)
            around.look.entries.update((key, name) for name in ways)
        except AgentBrokerError as error:
            around.look.problem = f"{os.fsdecode(path)!a}, above its package, can't be watched: {error.message}"
    for name, further in ways.items():
        _enter(fd, path + b"/" + name, further, around)


def _enter(folder_fd: int, path: bytes, further: Ways, around: _Around) -> None:
    if path in around.foreign:  # it may not answer for ever
        around.look.problem = f"{os.fsdecode(path)!a} is mounted from what a user can answer for"
        return
    try:
        fd = os.open(path.rpartition(b"/")[2], _OPEN, dir_fd=folder_fd)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        around.look.problem = f"{os.fsdecode(path)!a}, above its package, can't be looked at: {error.strerror}"
        return
    try:
        if path in around.places:
            around.look.present = ascii(os.fsdecode(path))
        elif further:
            _go_on(fd, path, further, around)
    except OSError as error:
        around.look.problem = f"{os.fsdecode(path)!a}, above its package, can't be looked at: {error.strerror}"
    finally:
        os.close(fd)


def _go_on(fd: int, path: bytes, further: Ways, around: _Around) -> None:
    mode = os.fstat(fd).st_mode
    if stat.S_ISLNK(mode):
        around.look.present = ascii(os.fsdecode(path))
    elif stat.S_ISDIR(mode):
        _walk(fd, path, further, around)


def _ways_of(paths: Iterable[bytes]) -> Ways:
    ways: Ways = {}
    for path in paths:
        here = ways
        for name in path.split(b"/")[1:]:
            here = here.setdefault(name, {})
    return ways


def present_places(places: Iterable[str]) -> frozenset[str]:
    """Return which of these places are not empty now."""
    return frozenset(place for place in places if os.path.lexists(place))
