"""From patterns to the files that match them now: every folder is entered once, and none through a link.

A pattern leads through folders that their user writes. They are entered component by component with O_PATH and
O_NOFOLLOW: no file is opened (no event, no FIFO to hang on), and a planted symbolic link ends the way instead of
leading it elsewhere. A folder is marked before its entries are looked at, so nothing that appears meanwhile is missed.

Whatever a user can make grow is bounded: entries read of a folder, depth, and, by whoever takes the findings, files
and folders in all.
"""

import errno
import os
import stat
from typing import Protocol

from agent_broker.monitor.pattern import State, Wanted, is_glob

MAX_ENTRIES = 100_000  # of one folder whose entries are listed
MAX_DEPTH = 40  # of a path: deeper folders below ``**`` are not entered
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


class Findings(Protocol):
    """Who takes what a survey finds. The descriptors are O_PATH and stay the surveyor's."""

    def folder(self, fd: int, path: str, state: State, *, entries: bool) -> bool:
        """Watch a folder, for changes of its entries or only of itself; False: don't enter it."""
        ...

    def file(self, fd: int, path: str, wanted: Wanted) -> None:
        """Watch a regular file."""
        ...

    def is_foreign(self, path: str) -> bool:
        """Whether a file system that a user answers for is mounted here: it may not answer for ever."""
        ...

    def missing(self, state: State, path: str, why: str) -> None:
        """Take why the way ends before, or at, this path; the state tells what is wanted from there on."""
        ...


def survey(root: State, findings: Findings, way: str = "/") -> None:
    """Look at everything that matches and lies at, or below, ``way``; the folders above it are entered too.

    Raises:
        OSError: ``/`` can't be opened, or there are no descriptors left.
    """
    parts = tuple(part for part in way.split("/") if part)
    fd = os.open("/", _OPEN | os.O_DIRECTORY)
    try:
        _Survey(findings).enter(fd, "", root, parts)
    finally:
        os.close(fd)


class _Survey:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def enter(self, fd: int, path: str, state: State, way: tuple[str, ...]) -> None:
        """Look at the entries of a folder; with a way, at its first one only."""
        entries = state.holds_files
        if not self._findings.folder(fd, path or "/", state, entries=entries):
            return
        for name in way[:1] or self._names(fd, state):
            below = state.step(name)
            if not below:
                continue
            child = f"{path}/{name}"
            if not self._look(fd, name, child, below, way[1:]) and not entries:
                entries = True  # what is not there may come: watch, then look again
                self._findings.folder(fd, path or "/", state, entries=True)
                self._look(fd, name, child, below, way[1:])

    def _names(self, fd: int, state: State) -> list[str]:
        known = state.names
        return known if not state.must_list else list(dict.fromkeys((*known, *self._listed(fd))))

    @staticmethod
    def _listed(fd: int) -> list[str]:
        try:
            readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                raise
            return []
        try:
            with os.scandir(readable) as entries:
                return [entry.name for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False)]
        finally:
            os.close(readable)

    def _look(self, folder: int, name: str, path: str, state: State, way: tuple[str, ...]) -> bool:
        """Look at one entry; False if there is none."""
        if self._findings.is_foreign(path):
            self._findings.missing(state, path, f"{name} is a file system that a user answers for")
            return True
        try:
            fd = os.open(name, _OPEN, dir_fd=folder)
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                raise
            self._findings.missing(state, path, f"{name}: {error.strerror}")
            return error.errno not in _ABSENT
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISREG(mode):
                self._found(fd, name, path, state)
            elif stat.S_ISDIR(mode) and state.leads_on and path.count("/") <= MAX_DEPTH:
                self.enter(fd, path, state, way)
            else:
                self._findings.missing(state, path, _misfit(name, mode, state))
        finally:
            os.close(fd)
        return True

    def _found(self, fd: int, name: str, path: str, state: State) -> None:
        wanted = state.wanted_as(name)
        if wanted is not None:
            self._findings.file(fd, path, wanted)
        if any(branch.names for branch in state.branches):
            self._findings.missing(state, path, f"{name} is not a directory")


def _misfit(name: str, mode: int, state: State) -> str:
    if stat.S_ISLNK(mode):
        return f"{name} is a symbolic link"
    return f"{name} is not {'a regular file' if state.required else 'a directory'}"


def lies_on_way_to(state: State) -> list[Wanted]:
    """Return the patterns without ``*`` that lead to, or through, a path with this state."""
    found: list[Wanted] = []
    open_branches = list(state.branches)
    while open_branches:
        branch = open_branches.pop()
        found += [each for each in branch.here if not is_glob(each.pattern)]
        open_branches += branch.names.values()
    return found
