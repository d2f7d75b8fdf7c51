"""That nobody writes a file: a read lease (fcntl(2), F_SETLEASE), which the kernel gives only if nobody has it open so.

Whoever opens the file for writing while the lease is held breaks it, and that is seen; so bytes that are hashed under
an unbroken lease are the bytes of the file until then, mapped writers included.
"""

import errno
import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from agent_broker.errors import MisuseError

_NO_LEASES = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


class Lease:
    """One lease that is held."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def unbroken(self) -> bool:
        """Whether nobody has opened the file for writing since."""
        return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK


@contextmanager
def read_lease(fd: int, name: str) -> Iterator[Lease | None]:
    """Hold a lease on an open file; None: its file system knows no leases. Only in a program's main thread.

    Raises:
        MisuseError: a program has it open for writing.
    """
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # what the kernel sends when a lease is broken
    try:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            if error.errno in _NO_LEASES:
                yield None
                return
            raise MisuseError(
                f"a program has {name} open for writing", next_step="wait until the update is done, then try again"
            ) from error
        try:
            yield Lease(fd)
        finally:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        signal.signal(signal.SIGIO, before)
