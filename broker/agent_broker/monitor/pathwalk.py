"""From a path to the inode that it names now, without ever following a link.

A path of the registry leads through directories that its user writes. It is walked component by component with
O_PATH and O_NOFOLLOW, so that nothing is opened (no event, no FIFO to hang on) and a planted symbolic link ends the
walk instead of leading it elsewhere.
"""

import os
import stat
from collections.abc import Callable
from pathlib import PurePosixPath
from types import TracebackType
from typing import Self

_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Walk:
    """How far a path leads; holds O_PATH descriptors until it is closed (``with``).

    Attributes:
        directories: descriptors of the directories that were entered, ``/`` first.
        next_name: the entry at which the walk stopped: the file's own name if ``file`` is there or is missing.
        file: descriptor of the regular file at the end; None if the path does not lead to one.
        problem: why not, one sentence; empty if ``file`` is there.
    """

    def __init__(self, path: str) -> None:
        parts = PurePosixPath(path).parts
        self.directories: list[int] = [os.open("/", _OPEN | os.O_DIRECTORY)]
        self.next_name = ""
        self.file: int | None = None
        self.problem = f"{path} is not an absolute path of a file"
        if len(parts) > 1 and parts[0] == "/" and ".." not in parts:
            self._walk(parts[1:], path)

    def identity(self) -> tuple[int, int]:
        """Return device and inode as stat tells them for the file.

        Raises:
            ValueError: there is no file.
        """
        if self.file is None:
            raise ValueError(self.problem)
        facts = os.fstat(self.file)
        return facts.st_dev, facts.st_ino

    def close(self) -> None:
        """Close every descriptor."""
        while self.directories:
            os.close(self.directories.pop())
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _walk(self, parts: tuple[str, ...], path: str) -> None:
        for name in parts[:-1]:
            if not self._step(name, path, stat.S_ISDIR, "a directory", self.directories.append):
                return
        self._step(parts[-1], path, stat.S_ISREG, "a regular file", self._found)

    def _step(
        self, name: str, path: str, wanted: Callable[[int], bool], called: str, keep: Callable[[int], None]
    ) -> bool:
        """Enter one component; on failure leave the reason in ``problem``."""
        self.next_name = name
        try:
            fd = os.open(name, _OPEN, dir_fd=self.directories[-1])
        except OSError as error:
            self.problem = f"{path} can't be watched: {name}: {error.strerror}"
            return False
        mode = os.fstat(fd).st_mode
        if not wanted(mode):
            os.close(fd)
            what = "a symbolic link" if stat.S_ISLNK(mode) else f"not {called}"
            self.problem = f"{path} can't be watched: {name} is {what}"
            return False
        keep(fd)
        return True

    def _found(self, fd: int) -> None:
        self.file = fd
        self.problem = ""
