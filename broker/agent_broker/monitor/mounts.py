"""Tells when the mounts of this namespace changed: a home that appears at login brings decoys without marks.

The kernel signals it as an exceptional condition on /proc/self/mountinfo (proc(5)). That file is always readable
besides, so it sits in an epoll instance of its own, asked for EPOLLPRI only, and the event loop watches that.
"""

import asyncio
import os
import select
from collections.abc import Callable

_SETTLE_S = 0.1  # mounts come in bursts


class MountWatch:
    """Calls back ``settle_s`` seconds after mounts changed, from the running event loop; once for all until then."""

    def __init__(self, changed: Callable[[], None], settle_s: float = _SETTLE_S) -> None:
        self._changed = changed
        self._settle_s = settle_s
        self._loop = asyncio.get_running_loop()
        self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._mounts, select.EPOLLPRI | select.EPOLLET)
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._epoll.fileno(), self._on_change)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._mounts)

    def _on_change(self) -> None:
        self._epoll.poll(0)
        if self._timer is None:
            self._timer = self._loop.call_later(self._settle_s, self._settled)

    def _settled(self) -> None:
        self._timer = None
        self._changed()
