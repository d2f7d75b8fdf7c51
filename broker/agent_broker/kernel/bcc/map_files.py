"""Which files' code a process has mapped, without BTF: by /proc/PID/map_files, which leads to the files themselves.

Names in /proc/PID/maps are not looked at: a mapping is named by its addresses, and its file is opened through the
kernel's own link. A mapping that is gone before that makes all of them be read again.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from agent_broker.errors import UnavailableError

_LINE: Final = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ..(.). [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) ")
"""One of proc(5)'s maps; a file's name, which is anybody's, comes behind."""
_NO_FILE: Final = (b"00:00", b"0")
_LOOKS: Final = 8


@contextmanager
def executable_files(pid: int) -> Iterator[tuple[int, ...]]:
    """Open the files of a process's executable mappings (O_PATH); none if it is gone.

    Raises:
        UnavailableError: its mappings change faster than they can be looked at, or are not to be read.
    """
    folder = Path(f"/proc/{pid}")
    for _ in range(_LOOKS):
        with ExitStack() as opened:
            fds = _opened(folder, opened)
            if fds is not None:
                yield fds
                return
    raise UnavailableError(f"the mappings of process {pid} change all the time")


def _opened(folder: Path, opened: ExitStack) -> tuple[int, ...] | None:
    """Return their descriptors; None: one of the mappings is gone by now."""
    fds = []
    try:
        for name in _ranges((folder / "maps").read_bytes()):
            fds.append(os.open(folder / "map_files" / name, os.O_PATH | os.O_CLOEXEC))
            opened.callback(os.close, fds[-1])
    except (FileNotFoundError, ProcessLookupError):
        return None if folder.exists() else ()
    except OSError as error:
        raise UnavailableError(f"{folder}/map_files can't be read: {error.strerror}") from error
    return tuple(fds)


def _ranges(maps: bytes) -> Iterator[str]:
    """Yield what map_files calls each executable mapping of a file: its addresses without leading zeros."""
    for line in maps.splitlines():
        found = _LINE.match(line + b" ")
        if found is not None and found[3] == b"x" and found.group(4, 5) != _NO_FILE:
            yield f"{int(found[1], 16):x}-{int(found[2], 16):x}"
