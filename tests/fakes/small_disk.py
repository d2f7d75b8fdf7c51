"""A real disk that is small: a tmpfs, mounted for one test (as root) and unmounted after it."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2  # sys/mount.h
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def small_disk(folder: Path, size_bytes: int = 1 << 20) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    options = f"size={size_bytes},mode=0700".encode()
    _require(_libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options))
    try:
        yield folder
    finally:
        _require(_libc.umount2(os.fsencode(folder), _MNT_DETACH))


def _require(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fill(folder: Path) -> Path:
    """Leave no page free; return the file to unlink to make room again."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return filler
    raise RuntimeError("the disk is not small")
