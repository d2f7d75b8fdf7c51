"""Which files below a folder are opened, as inotify tells: what a watch on a decoy would see."""

import ctypes
import os
import struct
from pathlib import Path
from typing import Self

_IN_OPEN, _IN_ISDIR = 0x20, 0x40000000
_HEAD = struct.Struct("iIII")


class Opened:
    """Watches every folder that is below ``top`` now; a context manager."""

    def __init__(self, top: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._top = top
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in (self._top, *(path for path in self._top.rglob("*") if path.is_dir() and not path.is_symlink())):
            if self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_OPEN) < 0:
                raise OSError(ctypes.get_errno(), str(folder))
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def names(self) -> set[str]:
        """The names of the files that were opened since it began, or since the last call."""
        found = set()
        while True:
            try:
                block = os.read(self._fd, 1 << 20)
            except BlockingIOError:
                return found
            while block:
                _, mask, _, length = _HEAD.unpack_from(block)
                name = block[_HEAD.size : _HEAD.size + length].rstrip(b"\0")
                if not mask & _IN_ISDIR:
                    found.add(os.fsdecode(name))
                block = block[_HEAD.size + length :]
