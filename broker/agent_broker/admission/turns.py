"""So many at a time; the others wait, and the least charged side is next (admission.sides). Bounded."""

import asyncio
from typing import Final

from agent_broker.admission.sides import Charges, Path, Queue

_Waiters = Queue[asyncio.Future[bool]]


class Turns:
    """See the module. One event loop. Whoever has its turn gives it back by ``next``."""

    def __init__(self, at_once: int, waiting: int, charges: Charges, *, lanes: int = 1) -> None:
        """Let nobody wait yet.

        Args:
            at_once: how many have their turn at the same time.
            waiting: how many may wait; for each that comes then, one of the most charged side is refused.
            charges: decide who is next; charging is the caller's.
            lanes: in a later one nobody has a turn while somebody waits in an earlier one.
        """
        self._free = at_once
        self._most: Final = waiting
        self._lanes: Final[tuple[_Waiters, ...]] = tuple(Queue(charges) for _ in range(lanes))

    @property
    def must_wait(self) -> bool:
        """Whether who came now would wait."""
        return not self._free

    @property
    def waiting(self) -> int:
        """How many do."""
        return sum(len(each) for each in self._lanes)

    async def wait(self, path: Path, lane: int = 0) -> bool:
        """Return True when it is this asker's turn, False if it is refused."""
        if self._free:
            self._free -= 1
            return True
        may_go: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        queue = self._lanes[lane]
        queue.add(path, may_go)
        self.make_room_for(0)
        try:
            return await may_go
        except asyncio.CancelledError:
            queue.discard(may_go)
            if not may_go.cancelled() and may_go.result():
                self.next()  # it was its turn already
            raise

    def next(self) -> None:
        """Give a turn that has ended to who is next."""
        for queue in self._lanes:
            while (found := queue.take()) is not None:
                if not found.done():  # else it leaves, and did not hear of it yet
                    found.set_result(True)
                    return
        self._free += 1

    def make_room_for(self, coming: int) -> None:
        """Refuse of those who wait as many as are too many, once so many more have come."""
        while self.waiting and self.waiting + coming > self._most:
            found = next(each for each in reversed(self._lanes) if len(each)).take_most_charged()
            if found is not None and not found.done():
                found.set_result(False)
