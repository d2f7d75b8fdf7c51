"""Whose question the monitor hears next: one process's flood waits behind itself.

The monitor answers in the order in which it is asked, so the order is made here. Questions of processes that are served
(``Lane.SERVED``) go at once, always. Of the rest only ``AT_ONCE`` are under way at a time; the others wait: those that
were never refused first, and within a lane every asker in turn, one question each.

A question that takes long (a hash, a socket that two processes hold) gives its turn up after ``LONG_S``: whoever asks
such questions on purpose does not hold the others up.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

from agent_broker.admission.standing import Lane

AT_ONCE: Final = 4
LONG_S: Final = 0.02

_Queue = OrderedDict[Hashable, deque[asyncio.Future[None]]]
"""By asker; the first one's first question is next, then that asker goes to the end."""


class Turns:
    """See the module. One event loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._waiting: dict[Lane, _Queue] = {Lane.NEW: OrderedDict(), Lane.REFUSED: OrderedDict()}

    @asynccontextmanager
    async def turn(self, asker: Hashable, lane: Lane) -> AsyncIterator[None]:
        """Wait for the asker's turn, and hold it in the ``with`` block, or for ``LONG_S``."""
        if lane is Lane.SERVED:
            yield
            return
        await self._wait(asker, lane)
        held = _Held(self)
        timer = asyncio.get_running_loop().call_later(LONG_S, held.give_back)
        try:
            yield
        finally:
            timer.cancel()
            held.give_back()

    async def _wait(self, asker: Hashable, lane: Lane) -> None:
        if self._free:
            self._free -= 1
            return
        queue = self._waiting[lane]
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.setdefault(asker, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was our turn already
                self.next()
            raise

    def next(self) -> None:
        """Give a turn that has ended to whoever waits."""
        for queue in self._waiting.values():
            waiter = _take_first(queue)
            if waiter is not None:
                waiter.set_result(None)
                return
        self._free += 1


class _Held:
    """One turn, given back once."""

    def __init__(self, turns: Turns) -> None:
        self._turns: Turns | None = turns

    def give_back(self) -> None:
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.next()


def _take_first(queue: _Queue) -> asyncio.Future[None] | None:
    while queue:
        asker, waiters = queue.popitem(last=False)
        while waiters and waiters[0].done():  # it gave up waiting
            waiters.popleft()
        if not waiters:
            continue
        waiter = waiters.popleft()
        if waiters:
            queue[asker] = waiters
        return waiter
    return None
