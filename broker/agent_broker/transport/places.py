"""Who may be connected at the same time: nobody keeps others out by not asking.

A place is a conversation's task. When places run out, the oldest conversation that has not asked yet gives up its
own: of the same user if that user has its full share, of anybody if all places are taken. A caller that
asks at once is never in that position. If all have asked, the newcomer is turned away; those
end by themselves within ``Limits.answer_s``.
"""

import asyncio
from collections import Counter

from msgspec import Struct

from agent_broker.ids import Uid


class Limits(Struct, frozen=True):
    """What one socket gives away at most."""

    connections: int = 256
    """Each holds up to three descriptors."""
    per_uid: int = 128
    idle_s: float = 2.0
    """From accept to a whole request."""
    answer_s: float = 1.8
    """For the handler; below the 2 s after which a shim gives up, so that it hears why."""


class Places:
    """See the module."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._owners: dict[asyncio.Task[None], Uid] = {}
        self._idle: dict[asyncio.Task[None], None] = {}
        self._by_uid: Counter[Uid] = Counter()

    def __len__(self) -> int:
        return len(self._owners)

    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Return all conversations, oldest first."""
        return tuple(self._owners)

    def make_room_for(self, uid: Uid) -> bool:
        """Return whether a place for this user is free now; may end an idle conversation."""
        if self._by_uid[uid] >= self._limits.per_uid:
            return self._end_oldest_idle(uid)
        return len(self._owners) < self._limits.connections or self._end_oldest_idle(None)

    def end_one_idle(self) -> None:
        """End the oldest idle conversation, if there is one."""
        self._end_oldest_idle(None)

    def take(self, task: asyncio.Task[None], uid: Uid) -> None:
        """Give a place to a conversation that has not asked yet."""
        self._owners[task] = uid
        self._idle[task] = None
        self._by_uid[uid] += 1

    def has_asked(self, task: asyncio.Task[None]) -> None:
        """Its request is here: it will not be ended to make room."""
        self._idle.pop(task, None)

    def leave(self, task: asyncio.Task[None]) -> None:
        """Free its place; harmless if it has none."""
        self._idle.pop(task, None)
        uid = self._owners.pop(task, None)
        if uid is None:
            return
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]

    def _end_oldest_idle(self, uid: Uid | None) -> bool:
        """``uid`` None: of anybody."""
        for task in self._idle:
            if uid is None or self._owners[task] == uid:
                self.leave(task)
                task.cancel()
                return True
        return False
