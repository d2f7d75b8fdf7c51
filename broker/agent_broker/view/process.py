"""From the thread that a request names to its process, held by a pidfd.

The law: a number that the kernel puts into a request is a thread of the mount's pid namespace, and that thread waits in
the system call that asks until it is answered (wire: nothing that is asked for lets it go on before). So the number can
be nobody else's while we look, and neither can its process's. What comes later is compared with the process that was
looked at, and that process must still live then: a pidfd says so, a number does not.
"""

import errno
import os
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from agent_broker.admission.standing import ProcessKey, process_key

_NO_LEADER = (errno.EINVAL, errno.ENOENT)  # pidfd_open(2) of a thread that does not lead its process


class Process:
    """A process by pidfd; a context manager, or closed by ``close``."""

    def __init__(self, tgid: int, pidfd: int) -> None:
        self.tgid = tgid
        self.pidfd = pidfd

    @cached_property
    def key(self) -> ProcessKey | None:
        """A number that is no other process's, ever; None: this kernel gives none."""
        return process_key(self.pidfd)

    @classmethod
    def of_thread(cls, tid: int) -> "Process":
        """Return the process of a thread.

        Raises:
            ProcessLookupError: 0 (it is not in our pid namespace), or it is gone, or may not be seen (hidepid).
        """
        if tid <= 0:
            raise ProcessLookupError(errno.ESRCH, "it is not in the pid namespace of the broker")
        try:
            return cls(tid, os.pidfd_open(tid))
        except OSError as error:
            if error.errno not in _NO_LEADER:
                raise ProcessLookupError(errno.ESRCH, "it is gone") from error
        tgid = leader_of(tid)
        try:
            return cls(tgid, os.pidfd_open(tgid))
        except OSError as error:
            raise ProcessLookupError(errno.ESRCH, "it is gone") from error

    def has(self, tid: int) -> bool:
        """Whether a thread is one of this process's, provided that the process still lives."""
        if tid == self.tgid:
            return True
        try:
            return tid > 0 and leader_of(tid) == self.tgid
        except ProcessLookupError:
            return False

    def close(self) -> None:
        """Let go of it; twice is fine."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def leader_of(tid: int) -> int:
    """Return the process id of a thread.

    Raises:
        ProcessLookupError: there is none that we may see.
    """
    try:
        status = Path(f"/proc/{tid}/status").read_bytes()
    except OSError as error:
        raise ProcessLookupError(errno.ESRCH, "it is gone") from error
    for line in status.splitlines():
        if line.startswith(b"Tgid:"):
            return int(line.split()[1])
    raise ProcessLookupError(errno.ESRCH, "its process is not told")
