"""Whose files the monitor reads next: who makes it hash and walk folders waits behind its own lineage.

A lineage costs microseconds to know, a look at a large file a second. So looks are limited by lineage, after that is
recorded and before anything is read:

1. ``at_once`` looks are under way; the others wait.
2. What a look takes, in seconds, is charged to every process on the lineage of who caused it, and fades.
3. Next is who comes from the less charged side, decided where lineages part, from the origin on. So whoever forks for
   each question waits behind all it made the monitor read, however its children hide (double fork, setsid: the record
   stays), while another lineage, above, beside or below it, goes first.
4. What a process asks for itself is a side of its own beside its children's: an agent's tools never stand before it.
5. Of ``WAITING`` that wait, one of the most charged side is refused for each that comes.

Nobody is refused for what a relative did while there is room: a shell is the parent of the flood and of the next agent
alike, and nothing recorded tells which of its children is which. So who makes ever new children of the parent that the
agent will have (the user's shell or service manager itself) takes turns with the agent's first look, as strangers do.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Final

from agent_broker.ids import ProcId
from agent_broker.lineage.record import Step

AT_ONCE: Final = 2
WAITING: Final = 256
_HALVED_IN_S: Final = 10.0
_REMEMBERED: Final = 8192
"""Sides with a charge; those that were charged longest ago are forgotten, so never those whose looks are made now."""

REFUSED: Final = "its lineage makes the monitor look at more files than it can"

_Side = tuple[ProcId, bool]
"""A process and all below it; True: what it asks for itself."""


class _Waiter:
    __slots__ = ("may_look", "path")

    def __init__(self, path: tuple[_Side, ...]) -> None:
        self.path = path
        self.may_look: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class LookTurns:
    """See the module. One event loop."""

    def __init__(self, at_once: int = AT_ONCE, now_s: Callable[[], float] = time.monotonic) -> None:
        """``now_s``: a clock that never goes back, in seconds."""
        self._now_s = now_s
        self._charges: OrderedDict[_Side, tuple[float, float]] = OrderedDict()
        """Seconds, and when that was so."""
        self._free = at_once
        self._waiting: list[_Waiter] = []
        """In the order in which they came."""

    @asynccontextmanager
    async def turn(self, steps: tuple[Step, ...]) -> AsyncIterator[str]:
        """Wait for the turn of a lineage; in the ``with`` block it is held, or it is said why there is none.

        ``steps``: the caller first, as far as they are recorded. Those of whom nothing is recorded are one lineage.
        """
        path = _path_of(steps)
        if not await self._wait(path):
            yield REFUSED
            return
        began_s = self._now_s()
        try:
            yield ""
        finally:
            self._charge(path, self._now_s() - began_s)
            self._next()

    async def _wait(self, path: tuple[_Side, ...]) -> bool:
        if self._free:
            self._free -= 1
            return True
        waiter = _Waiter(path)
        self._waiting = [each for each in self._waiting if not each.may_look.done()] + [waiter]
        if len(self._waiting) > WAITING:
            self._take_out(most_charged=True).may_look.set_result(False)
        try:
            return await waiter.may_look
        except asyncio.CancelledError:
            if not waiter.may_look.cancelled() and waiter.may_look.result():
                self._next()  # it was its turn already
            raise

    def _next(self) -> None:
        self._waiting = [each for each in self._waiting if not each.may_look.done()]  # who left may not know it yet
        if self._waiting:
            self._take_out(most_charged=False).may_look.set_result(True)
        else:
            self._free += 1

    def _take_out(self, *, most_charged: bool) -> _Waiter:
        """Return who comes from the least, or the most, charged side; of equals the first, or the last, that came."""
        left = self._waiting[::-1] if most_charged else self._waiting
        depth = 0
        while any(len(each.path) > depth for each in left):
            sides: dict[_Side, list[_Waiter]] = {}
            for each in left:
                sides.setdefault(each.path[depth], []).append(each)
            choose = max if most_charged else min  # both take the first of equals
            left = sides[choose(sides, key=self._charge_of)]
            depth += 1
        self._waiting.remove(left[0])
        return left[0]

    def _charge_of(self, side: _Side) -> float:
        seconds, at_s = self._charges.get(side, (0.0, 0.0))
        return float(seconds * 0.5 ** ((self._now_s() - at_s) / _HALVED_IN_S))

    def _charge(self, path: tuple[_Side, ...], seconds: float) -> None:
        now_s = self._now_s()
        for side in reversed(path):  # the origin last, so that it is forgotten last
            self._charges[side] = (self._charge_of(side) + seconds, now_s)
            self._charges.move_to_end(side)
        while len(self._charges) > _REMEMBERED:
            self._charges.popitem(last=False)


def _path_of(steps: tuple[Step, ...]) -> tuple[_Side, ...]:
    """Return the processes of a lineage, the origin first, and at the end the caller alone."""
    processes = [proc_id for proc_id, _ in groupby(steps, lambda step: step.proc_id)] or [ProcId(0)]
    return (*((each, False) for each in reversed(processes)), (processes[0], True))
