"""How a process behaved so far, so that a flood is answered "no" before it costs anything.

The laws:

- Only ever a cheap no. Good standing opens nothing: whoever is let in is attested as if it were the first time.
- It is the process that is remembered, by the kernel's number of its pidfd, which no other process ever gets. On
  kernels without such numbers (before Linux 6.9) nothing is remembered, and nobody is turned away.
- Not its lineage: that is the monitor's to tell. Who forks for each question has a place like any newcomer; by its
  lineage it waits to be heard (monitor.turns), is read for (identity.look_turns), and told of (monitor.lines).
- The connections of a process that was served are not counted. Its refusals are, and the first one ends that.
- What is remembered is bounded, and forgotten by itself: a process that stops asking is heard again within seconds.

A process gets ``BURST`` connections at once and ``PER_S`` a second from then on; a refusal costs as much as
``REFUSAL_COST`` connections.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Final, NewType

from msgspec import Struct

ProcessKey = NewType("ProcessKey", int)
"""The inode number of a process's pidfd in pidfs: unique since the machine booted."""

BURST: Final = 40.0
PER_S: Final = 4.0
REFUSAL_COST: Final = 8.0
_REMEMBERED: Final = 4096
_SERVED: Final = 1024


class Lane(IntEnum):
    """Whose questions go first when the monitor is busy."""

    SERVED = 0
    """It was given what it asked for, lately."""
    NEW = 1
    REFUSED = 2


class _Bucket(Struct):
    tokens: float
    at_s: float
    refusals: int = 0


class Standings:
    """See the module. Not safe for threads."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """``now_s``: a clock that never goes back, in seconds."""
        self._now_s = now_s
        self._buckets: OrderedDict[ProcessKey, _Bucket] = OrderedDict()
        self._served: OrderedDict[ProcessKey, None] = OrderedDict()

    def may_connect(self, process: ProcessKey | None) -> bool:
        """Count one connection of a process; return False if it must be turned away."""
        if process is None or (process in self._served and process not in self._buckets):
            return True
        bucket = self._filled(process)
        if bucket.tokens < 1:
            return False
        if process not in self._served:
            bucket.tokens -= 1
        return True

    def refused(self, process: ProcessKey | None) -> None:
        """A request of this process was refused."""
        if process is None:
            return
        self._served.pop(process, None)
        bucket = self._filled(process)
        bucket.tokens = max(0.0, bucket.tokens - REFUSAL_COST)
        bucket.refusals += 1

    def served(self, process: ProcessKey | None) -> None:
        """A request of this process was granted, after it was attested."""
        if process is None:
            return
        self._served[process] = None
        self._served.move_to_end(process)
        if len(self._served) > _SERVED:
            self._served.popitem(last=False)

    def lane(self, process: ProcessKey | None) -> Lane:
        """Return where its questions to the monitor wait."""
        if process is None:
            return Lane.NEW
        if process in self._served:
            return Lane.SERVED
        bucket = self._buckets.get(process)
        return Lane.REFUSED if bucket is not None and bucket.refusals else Lane.NEW

    def _filled(self, process: ProcessKey) -> _Bucket:
        now_s = self._now_s()
        bucket = self._buckets.get(process)
        if bucket is None:
            bucket = self._buckets[process] = _Bucket(BURST, now_s)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(process)
        bucket.tokens = min(BURST, bucket.tokens + (now_s - bucket.at_s) * PER_S)
        bucket.at_s = now_s
        if bucket.tokens == BURST:
            bucket.refusals = 0
        return bucket


def process_key(pidfd: int) -> ProcessKey | None:
    """Return the number of the process behind a pidfd; None: this kernel gives none that is the process's own."""
    return ProcessKey(os.fstat(pidfd).st_ino) if _are_pidfds_unique() else None


@cache
def _are_pidfds_unique() -> bool:
    """Before pidfs (Linux 6.9) all pidfds share one anonymous inode with other kinds of descriptors."""
    own, other = os.pidfd_open(os.getpid()), os.eventfd(0)
    try:
        return os.fstat(own).st_dev != os.fstat(other).st_dev
    finally:
        os.close(own)
        os.close(other)
