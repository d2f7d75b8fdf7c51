"""From the listener's thread to the event loop: opens that were answered and wait to be looked at. Bounded.

The law: every open that was put in comes out once, or as one of the times of another, or is counted as missed.
1. Opens of one mark by one program image (same kernel numbers, so the same verdict) that wait at the same time are one
   with a count. What follows within LATELY_S is counted with one that was looked at already, and comes out as a
   repeat of it: a burst is looked at some times a second, however fast it is.
2. Beyond MAX_WAITING_OPENS different ones the process's descriptors are given up: it is identified by its numbers all
   the same, and its executable is not hashed for it. What was looked at keeps no descriptor here.
3. Beyond MAX_WAITING_IN_ALL an open is only counted.
"""

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor.actor import Actor
from agent_broker.monitor.mark import Mark

MAX_WAITING_OPENS = 512  # with two descriptors each
MAX_WAITING_IN_ALL = 4096  # with none
MAX_LATELY = 512  # with none, but with what /proc said
LATELY_S = 0.25  # at most; a quarter of what the first repeats wait for their telling (monitor.fold)
_AT_A_TIME = 8  # then others in the event loop have their turn

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Opened:
    """Opens of one mark by one program image."""

    mark: Mark
    opened_as: str
    """The path of the first one."""
    actor: Actor
    times: int = 1
    """How many of them nobody took yet (``Intake.take``)."""
    is_told: bool | None = None
    """Whether they are reported; None: that is not known yet. Whoever settles sets it."""


Settle = Callable[[Opened], None]
"""In the event loop."""


class Intake:
    """See the module. ``join`` and ``put`` are called in the listener's thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settle: Settle, repeat: Settle, missed: Callable[[str, int], None]
    ) -> None:
        """Take the loop, and who is called in it.

        Args:
            loop: where everything but ``join`` and ``put`` happens.
            settle: takes over the actor, sets ``is_told`` at once or later, and then takes the times.
            repeat: takes the times of one that was settled and told; its actor's descriptors are closed, or in use.
            missed: why opens are not looked at, and how many.
        """
        self._loop = loop
        self._settle = settle
        self._repeat = repeat
        self._missed = missed
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Hashable, Opened] = OrderedDict()
        self._lately: dict[Hashable, Opened] = {}
        self._repeated: deque[Opened] = deque()
        self._uncounted = 0
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None

    def join(self, mark: Mark, record: TaskRecord | None) -> bool:
        """Count an open with the same one that waits, or was looked at lately; False: there is none."""
        if record is None:
            return False
        key = record, id(mark)
        with self._lock:
            same = self._waiting.get(key) or self._lately.get(key)
            if same is None:
                return False
            same.times += 1
            return True

    def put(self, mark: Mark, opened_as: str, actor: Actor) -> None:
        """Hand an open over to the loop; takes over the actor."""
        key = _key(mark, actor.record)
        unneeded: Actor | None = actor
        with self._lock:
            same = self._waiting.get(key) or self._lately.get(key)
            if same is not None:
                same.times += 1
            elif len(self._waiting) < MAX_WAITING_IN_ALL:
                self._waiting[key] = Opened(mark, opened_as, actor)
                unneeded = None if len(self._waiting) <= MAX_WAITING_OPENS else actor
            else:
                self._uncounted += 1
            must_schedule, self._scheduled = not self._scheduled, True
        if unneeded is not None:
            unneeded.close()
        if must_schedule:
            self._schedule()

    @property
    def in_work(self) -> int:
        """Opens that wait to be looked at; not those that are counted with one that was."""
        with self._lock:
            return len(self._waiting) + self._uncounted

    def take(self, opened: Opened) -> int:
        """Return how often it happened since this was asked last."""
        with self._lock:
            times, opened.times = opened.times, 0
        return times

    def close(self) -> None:
        """Settle all that waits; in the loop, once the thread has ended."""
        while self._scheduled:
            self._drain()
        if self._timer is not None:
            self._timer.cancel()
            self._look_back()
        while self._repeated:
            self._tell_repeated()

    def _schedule(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            _log.warning("the event loop ended before the decoy listener: an open was answered and is not reported")

    def _drain(self) -> None:
        """Settle some, in the loop; go on in its next turn if there are more."""
        with self._lock:
            found = [self._waiting.popitem(last=False) for _ in range(min(_AT_A_TIME, len(self._waiting)))]
            for key, each in found:
                if each.actor.record is not None and len(self._lately) < MAX_LATELY:
                    self._lately[key] = each
            uncounted, self._uncounted = self._uncounted, 0
            self._scheduled = bool(self._waiting)
            again = self._scheduled
        if again:
            self._loop.call_soon(self._drain)
        if self._lately and self._timer is None:
            self._timer = self._loop.call_later(LATELY_S, self._look_back)
        for _, each in found:
            self._look_at(each, self._settle)
        if uncounted:
            self._missed("too much happened at once", uncounted)

    def _look_back(self) -> None:
        """Let go of all that was looked at; what of it repeated itself, and is told, comes out."""
        with self._lock:
            lately, self._lately, self._timer = self._lately, {}, None
        # None: whoever settles it takes the times
        self._repeated.extend(each for each in lately.values() if each.times and each.is_told)
        self._tell_repeated()

    def _tell_repeated(self) -> None:
        for _ in range(min(_AT_A_TIME, len(self._repeated))):
            self._look_at(self._repeated.popleft(), self._repeat)
        if self._repeated:
            self._loop.call_soon(self._tell_repeated)

    def _look_at(self, each: Opened, settle: Settle) -> None:
        try:
            settle(each)
        except Exception:  # noqa: BLE001 - whatever went wrong with one, the others are told
            _log.exception("an open of a decoy was answered, and not looked at")
            each.actor.close()
            each.is_told = True  # what follows is not lost
            self._missed("the opener could not be looked at", max(self.take(each), 1))


def _key(mark: Mark, record: TaskRecord | None) -> Hashable:
    """Return what makes two opens the same; unique if nothing is known of the process.

    By the mark's identity: its hash is dear, and it lives as long as the entry.
    """
    return object() if record is None else (record, id(mark))
