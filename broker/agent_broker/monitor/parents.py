"""Whose child is it? Asked only of those who have to wait for their turn, and of many at once.

Who comes while a question is under way is in the next one: a flood of new processes costs the monitor some microseconds
each, and nobody's wait grows by more than two questions for each ``AT_A_TIME`` that came before.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from agent_broker.errors import AgentBrokerError
from agent_broker.ids import ProcId
from agent_broker.monitor.messages import MAX_PROCESSES

Lineages = Sequence[tuple[ProcId, ...]]
"""Of each process: it, and all it descends from; empty if that is not wholly known."""

Ask = Callable[[list[int]], Awaitable[Lineages]]
"""Asks the monitor about pidfds, which stay open until it returns."""


class Parents:
    """See the module. One event loop."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._wanted: deque[tuple[int, asyncio.Future[tuple[ProcId, ...]]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def of(self, pidfd: int) -> tuple[ProcId, ...]:
        """Return the process behind a pidfd and its ancestors; empty: not wholly known, or the monitor is down."""
        answer: asyncio.Future[tuple[ProcId, ...]] = asyncio.get_running_loop().create_future()
        self._wanted.append((os.dup(pidfd), answer))  # whoever asks may leave, and close it
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_for_all())
        return await answer

    async def _ask_for_all(self) -> None:
        try:
            while self._wanted:
                await self._ask_for_some([self._wanted.popleft() for _ in range(min(MAX_PROCESSES, len(self._wanted)))])
        finally:
            self._asking = None

    async def _ask_for_some(self, wanted: list[tuple[int, asyncio.Future[tuple[ProcId, ...]]]]) -> None:
        found: Lineages = ()
        try:
            found = await self._ask([pidfd for pidfd, _ in wanted])
        except AgentBrokerError:
            found = ()  # their lineage is not known; what they ask will be answered with the reason
        finally:
            for place, (pidfd, answer) in enumerate(wanted):
                os.close(pidfd)
                if not answer.done():
                    answer.set_result(tuple(found[place]) if place < len(found) else ())
