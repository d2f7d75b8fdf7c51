"""Look for moved secrets in what is left of a home.

Runs with the user's rights: what the user can't read is not read, and counted as not looked at. Links are not
followed, other file systems are not entered, only regular files are opened.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator

from agent_broker.enroll.beneath import open_beneath
from agent_broker.enroll.file_protocol import Scan, Scanned
from agent_broker.lineage.text import plain

_CHUNK_BYTES = 1 << 20
_BEAT_NS = 1_000_000_000  # a sign of life about once a second
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW


def scan(home_fd: int, order: Scan, beat: Callable[[int], None]) -> Scanned:
    """Look at the files that matter first, then at the rest of the home up to the order's limits.

    Args:
        home_fd: the home folder.
        order: what to look for, and how much to look at.
        beat: called with the number of files looked at, about once a second.
    """
    return _Scan(home_fd, order, beat).run()


class _Scan:
    """One walk."""

    def __init__(self, home_fd: int, order: Scan, beat: Callable[[int], None]) -> None:
        self._home_fd = home_fd
        self._order = order
        self._beat = beat
        self._next_beat_ns = time.monotonic_ns() + _BEAT_NS
        self._overlap = max((len(needle) for needle in order.needles), default=1) - 1
        self._seen: set[tuple[int, int]] = set()
        self._found: list[str] = []
        self._files = 0
        self._not_looked_at = 0
        self._bytes_left = order.limit_bytes

    def run(self) -> Scanned:
        for place in self._order.first:
            self._bytes_left = self._order.limit_bytes
            self._look(place)
        self._bytes_left = self._order.limit_bytes
        for path in self._walk("."):
            self._look_at_file(path)
        return Scanned(found=tuple(sorted(self._found)), files=self._files, not_looked_at=self._not_looked_at)

    def _look(self, place: str) -> None:
        try:
            facts = os.stat(place, dir_fd=self._home_fd, follow_symlinks=False)
        except OSError:
            return
        if stat.S_ISDIR(facts.st_mode):
            for path in self._walk(place):
                self._look_at_file(path)
        else:
            self._look_at_file(place)

    def _walk(self, top: str) -> Iterator[str]:
        """Yield the regular files below a folder; by a list of its own, since a user may nest without end."""
        pending, device = [top], None
        while pending:
            folder = pending.pop()
            try:
                fd = open_beneath(self._home_fd, folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                self._not_looked_at += 1
                continue
            try:
                device = device or os.fstat(fd).st_dev
                if os.fstat(fd).st_dev != device:
                    self._not_looked_at += 1
                    continue
                with os.scandir(fd) as entries:
                    for entry in entries:
                        path = os.path.normpath(f"{folder}/{entry.name}")
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(path)
                        elif entry.is_file(follow_symlinks=False):
                            yield path
            finally:
                os.close(fd)

    def _look_at_file(self, path: str) -> None:
        self._sign_of_life()
        if path in self._order.skip:
            return
        try:
            facts = os.stat(path, dir_fd=self._home_fd, follow_symlinks=False)
            identity = (facts.st_dev, facts.st_ino)
            if not stat.S_ISREG(facts.st_mode) or identity in self._seen:
                return
            if self._files >= self._order.limit_files or facts.st_size > self._bytes_left:
                self._not_looked_at += 1
                return
            self._seen.add(identity)
            self._bytes_left -= facts.st_size
            self._files += 1
            if self._holds_a_needle(path):
                self._found.append(plain(os.fsencode(path)))
        except OSError:
            self._not_looked_at += 1

    def _holds_a_needle(self, path: str) -> bool:
        fd = self._open(path)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return False
            tail = b""
            while chunk := os.read(fd, _CHUNK_BYTES):
                window = tail + chunk
                if any(needle in window for needle in self._order.needles):
                    return True
                tail = window[-self._overlap :] if self._overlap else b""
                self._sign_of_life()
            return False
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        try:
            return open_beneath(self._home_fd, path, _READ | os.O_NOATIME)
        except PermissionError:  # somebody else's file, whose time of access only they may keep
            return open_beneath(self._home_fd, path, _READ)

    def _sign_of_life(self) -> None:
        now = time.monotonic_ns()
        if now >= self._next_beat_ns:
            self._next_beat_ns = now + _BEAT_NS
            self._beat(self._files)
