"""In which folder a process works, for the choice between accounts; nothing else is decided by it."""

import os
from pathlib import Path


def folder_of(pid: int) -> bytes:
    """Return a process's working directory as this process's root names it; empty: it can't be told, or was deleted.

    Nobody but the caller says whose pid it is: a pidfd of it must be known to be alive afterwards.
    """
    try:
        fd = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if os.fstat(fd).st_nlink == 0:
            return b""
        return os.fsencode(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return b""
    finally:
        os.close(fd)
