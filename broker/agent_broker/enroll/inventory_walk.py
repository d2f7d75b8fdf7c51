"""What of a home holds credentials, looked at with the user's rights. Nothing is changed, no link is followed.

The law:
1. A decoy is not opened: neither one whose path is known, nor another name of it. Nothing in a place that the monitor
   watches is opened, since that would raise an alert. What is not opened is known by its place (O_PATH: no event).
2. Only regular files are opened, without waiting (a FIFO, a device and a socket are not), and only up to a limit.
3. Folders are entered component by component below the home; another file system is not entered. Entries, depth,
   files, bytes, findings and time are bounded; what lies beyond is counted by its reason.
"""

import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from agent_broker.enroll.beneath import open_beneath
from agent_broker.enroll.inventory_protocol import Order, Sighting, State
from agent_broker.enroll.inventory_readers import ReadersOf
from agent_broker.identity.resolution import mounted_by_users

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
_BEAT_NS = 500_000_000
OTHER_FILE_SYSTEM = "on another file system"
UNREADABLE = "not readable"
TOO_MANY = "beyond the limits"
TOO_BIG = "too big"
TOO_LATE = "out of time"


class OutOfTimeError(Exception):
    """The order's time is over. Never leaves the process."""


class Looked:
    """One regular file that was looked at, not opened."""

    def __init__(self, path: str, facts: os.stat_result, folder_fd: int) -> None:
        self.path = path
        self.name = path.rpartition("/")[2]
        self.facts = facts
        self.folder_fd = folder_fd


class Walk:
    """One home, held open, with what may still be spent on it."""

    def __init__(
        self, order: Order, home_fd: int, emit: Callable[[Sighting], None], beat: Callable[[int], None]
    ) -> None:
        self.order = order
        self.home_fd = home_fd
        self.missed: Counter[str] = Counter()
        self.entries = 0
        self.opened = 0
        self._emit = emit
        self._beat = beat
        self._found = 0
        self._readers = ReadersOf(home_fd, order.home)
        self._device = os.fstat(home_fd).st_dev
        self._foreign = mounted_by_users()
        self._home = order.home.rstrip("/")
        self._seen: set[str] = set()
        now_ns = time.monotonic_ns()
        self._end_ns = now_ns + int(order.limits.time_s * 1e9)
        self._beat_ns = now_ns + _BEAT_NS
        prefix = f"{self._home}/"
        self._skip = {path.removeprefix(prefix) for path in order.skip if path.startswith(prefix)}
        self._skipped_inodes = set(self._identities())

    def _identities(self) -> Iterator[tuple[int, int]]:
        for path in self._skip:
            with self.look(path, skipped=True) as looked:
                if looked is not None:
                    yield looked.facts.st_dev, looked.facts.st_ino

    def tick(self) -> None:
        """Count one entry; give a sign of life now and then.

        Raises:
            OutOfTimeError: the time is over.
        """
        self.entries += 1
        now_ns = time.monotonic_ns()
        if now_ns >= self._beat_ns:
            self._beat_ns = now_ns + _BEAT_NS
            self._beat(self.entries)
        if now_ns >= self._end_ns:
            raise OutOfTimeError

    def is_decoy(self, looked: Looked) -> bool:
        """Whether a file is a decoy that is known, under whatever name."""
        return looked.path in self._skip or (looked.facts.st_dev, looked.facts.st_ino) in self._skipped_inodes

    @contextmanager
    def look(self, path: str, *, skipped: bool = False) -> Iterator[Looked | None]:
        """Look at a path; None: no regular file, or not reachable without a link. ``skipped``: it is a known decoy."""
        folder, _, name = path.rpartition("/")
        folder_fd = -1
        try:
            folder_fd = open_beneath(self.home_fd, folder or ".", os.O_PATH | os.O_DIRECTORY)
            fd = open_beneath(folder_fd, name, os.O_PATH | os.O_NOFOLLOW)
            try:
                facts = os.fstat(fd)
            finally:
                os.close(fd)
            regular = stat.S_ISREG(facts.st_mode) and (facts.st_dev == self._device or skipped)
            looked = Looked(path, facts, folder_fd) if regular else None
        except OSError:
            looked = None
        try:
            yield looked
        finally:
            if folder_fd >= 0:
                os.close(folder_fd)

    def linked(self, path: str) -> str:
        """Return where in the home a symbolic link leads, as dotfile managers make them; else the path itself.

        Only its text is followed, once: what is there is looked at like any other path.
        """
        try:
            folder_fd = open_beneath(self.home_fd, path.rpartition("/")[0] or ".", os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return path
        try:
            target = os.readlink(path.rpartition("/")[2], dir_fd=folder_fd)
        except OSError:  # no link, or nothing there
            return path
        finally:
            os.close(folder_fd)
        whole = os.path.normpath(os.path.join(self._home, path.rpartition("/")[0], target))  # noqa: PTH118 - text only
        return whole.removeprefix(f"{self._home}/") if whole.startswith(f"{self._home}/") else path

    def read(self, looked: Looked) -> bytes | None:
        """Return a file's content; None: it may not be opened, or is beyond a limit (which is counted)."""
        if self.is_decoy(looked) or not self._may_open(looked):
            return None
        self.opened += 1
        try:
            fd = self._open(looked)
        except OSError:
            self.missed[UNREADABLE] += 1
            return None
        try:
            return self._content(fd)
        except OSError:
            self.missed[UNREADABLE] += 1
            return None
        finally:
            os.close(fd)

    def _may_open(self, looked: Looked) -> bool:
        limits = self.order.limits
        if looked.facts.st_size > limits.file_bytes:
            self.missed[TOO_BIG] += 1
        elif self.opened >= limits.opened_files:
            self.missed[TOO_MANY] += 1
        else:
            return True
        return False

    def _content(self, fd: int) -> bytes | None:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or (facts.st_dev, facts.st_ino) in self._skipped_inodes:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read(self.order.limits.file_bytes)

    @staticmethod
    def _open(looked: Looked) -> int:
        try:
            return open_beneath(looked.folder_fd, looked.name, _READ | os.O_NOATIME)
        except PermissionError:  # somebody else's file, whose time of access only they may keep
            return open_beneath(looked.folder_fd, looked.name, _READ)

    def sighting(self, looked: Looked, holds: str, state: State, **more: object) -> Sighting:
        """Return what is told of a file."""
        facts = looked.facts
        folder = looked.path.rpartition("/")[0]
        made = Sighting(
            path=os.fsencode(f"{self._home}/{looked.path}"),
            holds=holds,
            state=state,
            mode=stat.S_IMODE(facts.st_mode),
            uid=facts.st_uid,
            gid=facts.st_gid,
            mtime_ns=facts.st_mtime_ns,
            readers=self._readers(folder, looked.folder_fd, looked.name, facts),
        )
        return msgspec.structs.replace(made, **more)

    def emit(self, sighting: Sighting) -> None:
        """Tell what was found, up to the limit."""
        if self._found >= self.order.limits.findings:
            self.missed[TOO_MANY] += 1
            return
        self._found += 1
        self._emit(sighting)

    def first_visit(self, path: str) -> bool:
        """Whether a file has not been dealt with yet."""
        if path in self._seen:
            return False
        self._seen.add(path)
        return True

    def list_folder(self, path: str) -> list[tuple[str, bool]]:
        """Return names and whether each is a folder; nothing of a folder that can't, or shall not, be entered."""
        limits = self.order.limits
        if os.fsencode(f"{self._home}/{path}" if path not in {"", "."} else self._home) in self._foreign:
            self.missed[OTHER_FILE_SYSTEM] += 1
            return []
        try:
            fd = open_beneath(self.home_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        except OSError:
            self.missed[UNREADABLE] += 1
            return []
        found = []
        try:
            if os.fstat(fd).st_dev != self._device:
                self.missed[OTHER_FILE_SYSTEM] += 1
                return []
            with os.scandir(fd) as entries:
                for number, entry in enumerate(entries):
                    if number >= limits.folder_entries or self.entries >= limits.entries:
                        self.missed[TOO_MANY] += 1
                        break
                    self.tick()
                    found.append((entry.name, entry.is_dir(follow_symlinks=False)))
        except OSError:
            self.missed[UNREADABLE] += 1
        finally:
            os.close(fd)
        return found

    def files_of(self, folder: str) -> Iterator[str]:
        """Yield the paths of what is no folder in a folder."""
        return (f"{folder}/{name}" if folder else name for name, is_folder in self.list_folder(folder) if not is_folder)

    def folders_first(self, skip: Callable[[str, str], bool]) -> Iterator[tuple[str, list[str]]]:
        """Yield each folder with the names of its files, the nearest to the home first.

        Args:
            skip: of a folder's path and a name in it, whether that folder is left out.
        """
        pending = deque([("", 0)])
        while pending:
            folder, depth = pending.popleft()
            if self.entries >= self.order.limits.entries:
                self.missed[TOO_MANY] += len(pending) + 1
                return
            names = self.list_folder(folder)
            yield folder, [name for name, is_folder in names if not is_folder]
            below = [name for name, is_folder in names if is_folder and not skip(folder, name)]
            if below and depth >= self.order.limits.depth:
                self.missed[TOO_MANY] += len(below)
                continue
            pending += [(f"{folder}/{name}" if folder else name, depth + 1) for name in below]
