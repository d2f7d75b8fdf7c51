"""Tells what happens to the entries of folders: one fanotify group, a mark on each folder. Nothing here waits."""

import select
from collections.abc import Iterable

from agent_broker.errors import UnavailableError
from agent_broker.monitor.fanotify import (
    FAN_CLASS_NOTIF,
    FAN_CREATE,
    FAN_DELETE,
    FAN_MOVED_FROM,
    FAN_MOVED_TO,
    FAN_NONBLOCK,
    FAN_ONDIR,
    FAN_Q_OVERFLOW,
    FAN_REPORT_DIR_FID,
    FAN_REPORT_FID,
    FAN_REPORT_NAME,
    Group,
    file_key,
)

_ENTRIES = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR
_MAX_READS = 64
"""Batches taken at once; who makes events faster than that is answered that something was lost."""


class FanotifyNameWatch:
    """See the module (identity.surroundings.NameWatch)."""

    def __init__(self) -> None:
        """Make the group.

        Raises:
            UnavailableError: the kernel refuses it.
        """
        self._group = Group(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME)
        self._waiting = select.poll()
        self._waiting.register(self._group.fd, select.POLLIN)

    def follow(self, fd: int) -> bytes:
        """See NameWatch.

        Raises:
            UnavailableError: its file system has no file ids, or the kernel refuses.
        """
        key = file_key(fd)
        if key is None:
            raise UnavailableError("its file system can't tell when an entry changes")
        self._group.mark(fd, _ENTRIES)
        return key

    def take(self) -> Iterable[tuple[bytes, bytes]] | None:
        """See NameWatch."""
        found: list[tuple[bytes, bytes]] = []
        for _ in range(_MAX_READS):
            if not self._waiting.poll(0):
                return found
            for change in self._group.read_changes():
                if change.mask & FAN_Q_OVERFLOW:
                    return None
                found.append((change.directory, change.name))
        return None

    def close(self) -> None:
        """See NameWatch."""
        self._group.close()
