"""Whose files the monitor reads next: who makes it hash and walk folders waits behind its own lineage.

A lineage costs microseconds to know, a look at a large file a second. So looks are limited by lineage, after that is
recorded and before anything is read:

1. ``at_once`` looks are under way; the others wait.
2. What a look takes, in seconds, is charged to every process on the lineage of who caused it, and fades.
3. Next is who comes from the less charged side, decided where lineages part (admission.sides). So whoever forks for
   each question waits behind all it made the monitor read, however its children hide (double fork, setsid: the record
   stays), while another lineage, above, beside or below it, goes first.
4. What a process asks for itself is a side of its own beside its children's: an agent's tools never stand before it.
5. Of ``WAITING`` that wait, one of the most charged side is refused for each that comes.

Nobody is refused for what a relative did while there is room: a shell is the parent of the flood and of the next agent
alike, and nothing recorded tells which of its children is which. So who makes ever new children of the parent that the
agent will have (the user's shell or service manager itself) takes turns with the agent's first look, as strangers do.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Final

from agent_broker.admission.sides import Charges, path_of
from agent_broker.admission.turns import Turns
from agent_broker.lineage.record import Step

AT_ONCE: Final = 2
WAITING: Final = 256

REFUSED: Final = "its lineage makes the monitor look at more files than it can"


class LookTurns:
    """See the module. One event loop."""

    def __init__(self, at_once: int = AT_ONCE, now_s: Callable[[], float] = time.monotonic) -> None:
        """``now_s``: a clock that never goes back, in seconds."""
        self._now_s = now_s
        self._charges = Charges(now_s)
        self._turns = Turns(at_once, WAITING, self._charges)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._turns.waiting

    @asynccontextmanager
    async def turn(self, steps: tuple[Step, ...]) -> AsyncIterator[str]:
        """Wait for the turn of a lineage; in the ``with`` block it is held, or it is said why there is none.

        ``steps``: the caller first, as far as they are recorded. Those of whom nothing is recorded are one lineage.
        """
        path = path_of([proc_id for proc_id, _ in groupby(steps, lambda step: step.proc_id)])
        if not await self._turns.wait(path):
            yield REFUSED
            return
        began_s = self._now_s()
        try:
            yield ""
        finally:
            self._charges.add(path, self._now_s() - began_s)
            self._turns.next()
