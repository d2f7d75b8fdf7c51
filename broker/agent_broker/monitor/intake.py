"""From the listener's thread to the event loop: opens that were answered and wait to be looked at. Bounded.

The law: every open that was put in comes out once, or as one of its ``times``, or is counted as missed.
1. Opens of one file by one program (same kernel numbers, so the same verdict) that wait at the same time are one with
   a count: a process that opens faster than the loop looks costs no more than one that does not.
2. Beyond MAX_WAITING_OPENS different ones the process's descriptors are given up: it is identified by its numbers all
   the same, and its executable is not hashed for it.
3. Beyond MAX_WAITING_IN_ALL an open is only counted.
"""

import asyncio
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor.actor import Actor

MAX_WAITING_OPENS = 512  # with three descriptors each
MAX_WAITING_IN_ALL = 4096  # with one
_AT_A_TIME = 64  # then others in the event loop have their turn

Settle = Callable[[int, Actor, int], None]
"""Takes over the event's descriptor and the actor, with how often it happened; in the event loop."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    event_fd: int
    actor: Actor
    times: int = 1


class Intake:
    """See the module. ``join`` and ``put`` are called in the listener's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settle: Settle, missed: Callable[[str, int], None]) -> None:
        self._loop = loop
        self._settle = settle
        self._missed = missed
        self._lock = threading.Lock()
        self._opens: OrderedDict[Hashable, _Open] = OrderedDict()
        self._uncounted = 0
        self._scheduled = False

    def join(self, event_fd: int, record: TaskRecord | None) -> bool:
        """Count an open with the same one that waits; False: there is none. The descriptors stay the caller's."""
        key = _key(event_fd, record)
        with self._lock:
            waiting = self._opens.get(key)
            if waiting is None:
                return False
            waiting.times += 1
            return True

    def put(self, event_fd: int, actor: Actor) -> None:
        """Hand an open over to the loop; takes over all descriptors."""
        key = _key(event_fd, actor.record)
        with self._lock:
            waiting = self._opens.get(key)
            if waiting is not None:
                waiting.times += 1
            elif len(self._opens) < MAX_WAITING_IN_ALL:
                self._opens[key] = _Open(event_fd, actor)
                if len(self._opens) > MAX_WAITING_OPENS:
                    actor.close()
                event_fd = -1
            else:
                self._uncounted += 1
            must_schedule, self._scheduled = not self._scheduled, True
        if event_fd >= 0:
            os.close(event_fd)
            actor.close()
        if must_schedule:
            self._schedule()

    def _schedule(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            _log.warning("the event loop ended before the decoy listener: an open was answered and is not reported")

    def _drain(self) -> None:
        """Settle some, in the loop; go on in its next turn if there are more."""
        with self._lock:
            found = [self._opens.popitem(last=False)[1] for _ in range(min(_AT_A_TIME, len(self._opens)))]
            uncounted, self._uncounted = self._uncounted, 0
            self._scheduled = bool(self._opens)
            again = self._scheduled
        if again:
            self._loop.call_soon(self._drain)
        for each in found:
            try:
                self._settle(each.event_fd, each.actor, each.times)
            except Exception:  # noqa: BLE001 - whatever went wrong with one, the others are told
                _log.exception("an open of a decoy was answered, and not looked at")
                self._missed("the opener could not be looked at", each.times)
        if uncounted:
            self._missed("too much happened at once", uncounted)

    def close(self) -> None:
        """Settle all that waits; in the loop, once the thread has ended."""
        while self._scheduled:
            self._drain()


def _key(event_fd: int, record: TaskRecord | None) -> Hashable:
    """Return what makes two opens the same; unique if nothing is known of the process."""
    if record is None:
        return object()
    facts = os.fstat(event_fd)
    return record, facts.st_dev, facts.st_ino
