"""Whose question the monitor hears next: a lineage's flood waits behind itself, however many processes it forks.

The monitor answers in the order in which it is asked, so the order is made here. Questions of processes that are served
(``Lane.SERVED``) go at once, always. Of the rest only ``AT_ONCE`` are under way at a time; the others wait:

1. Who need not wait is asked nothing and charged nothing. Who must, is asked for its lineage first (monitor.parents).
2. Those that were never refused go first. Within a lane next is who comes from the less charged side, decided where
   recorded lineages part (admission.sides): a question is charged to all on its asker's lineage. Sides of less than
   ``MODEST`` questions are equals, and take turns: ever new children of the agent's own parent don't keep it out.
3. Of ``WAITING`` that wait, one of the most charged side is refused for each that comes (who is just asked for its
   lineage counts as one of them, and is not refused). So what waits never takes all
   the places that a user has (transport.limits).
4. A question that takes long (a hash, a look at a package) gives its turn up after ``LONG_S``: whoever asks such
   questions on purpose does not hold the others up. It costs as much as ``LONG_COST``, and of ``MAX_LONG`` of them one
   of the most charged side is refused for each that comes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from agent_broker.admission.sides import Charges, Path, Queue, path_of
from agent_broker.admission.standing import Lane
from agent_broker.admission.turns import Turns
from agent_broker.ids import ProcId

AT_ONCE: Final = 4
WAITING: Final = 120
MODEST: Final = 64.0
LONG_S: Final = 0.02
LONG_COST: Final = 8.0
MAX_LONG: Final = 64

Lineage = Callable[[], Awaitable[tuple[ProcId, ...]]]
"""The asker's process and all it descends from; empty: not wholly known."""


def _ignore() -> None:
    return


class AskingTurns:
    """See the module. One event loop."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING, long: int = MAX_LONG) -> None:
        """Let nobody wait yet: ``at_once`` are under way, ``waiting`` wait, ``long`` take long, at most."""
        self._most_long: Final = long
        self._charges = Charges(free=MODEST)
        self._turns = Turns(at_once, waiting, self._charges, lanes=2)
        self._looked_up = 0
        self._long: Queue[_Held] = Queue(self._charges)

    @asynccontextmanager
    async def turn(self, lane: Lane, lineage: Lineage, stop: Callable[[], None] = _ignore) -> AsyncIterator[bool]:
        """Wait for an asker's turn, and hold it in the ``with`` block, or for ``LONG_S``; False there: it is refused.

        Args:
            lane: how the asker behaved.
            lineage: asked only if it must wait, or takes long.
            stop: ends what takes long, at once.
        """
        if lane is Lane.SERVED:
            yield True
            return
        path = await self._path_of(lineage) if self._turns.must_wait else None
        if path is not None and self._turns.must_wait:
            if not await self._turns.wait(path, lane - Lane.NEW):
                yield False
                return
            self._charges.add(path, 1.0)
        else:
            await self._turns.wait(path_of(()))  # there is room: it does not wait
        held = _Held(path, lineage, stop)
        timer = asyncio.get_running_loop().call_later(LONG_S, self._is_long, held)
        try:
            yield True
        finally:
            timer.cancel()
            self._ended(held)

    async def _path_of(self, lineage: Lineage) -> Path:
        self._looked_up += 1
        self._turns.make_room_for(self._looked_up)
        try:
            return path_of(await lineage())
        finally:
            self._looked_up -= 1

    def _ended(self, held: "_Held") -> None:
        held.has_ended = True
        self._long.discard(held)
        if held.learning is not None:
            held.learning.cancel()
        self._give_back(held)

    def _give_back(self, held: "_Held") -> None:
        if held.has_turn:
            held.has_turn = False
            self._turns.next()

    def _is_long(self, held: "_Held") -> None:
        self._give_back(held)
        held.learning = asyncio.get_running_loop().create_task(self._count_long(held))

    async def _count_long(self, held: "_Held") -> None:
        path = path_of(await held.lineage()) if held.path is None else held.path
        if held.has_ended:
            return
        self._charges.add(path, LONG_COST)
        self._long.add(path, held)
        if len(self._long) > self._most_long:
            most = self._long.take_most_charged()
            if most is not None:
                most.stop()


class _Held:
    """One turn, given back once."""

    def __init__(self, path: Path | None, lineage: Lineage, stop: Callable[[], None]) -> None:
        self.path = path
        self.lineage = lineage
        self.stop = stop
        self.has_turn = True
        self.has_ended = False
        self.learning: asyncio.Task[None] | None = None
