"""Who may be connected at the same time: nobody keeps others out by not asking, or by being refused.

A place is a connection. When places run out, one that has not asked yet is ended: of the same process if that has its
full share, of the same user if that has, of anybody if all are taken; the oldest of the process that holds the most.
So whoever has one, and asks at once, is not in that position, be it read or not yet. If all have asked, the newcomer is
turned away.

A *lesser* place is one whose holder has not earned a better: a user's lesser places are fewer than all its places, so
that whoever floods them leaves the rest to the user's others.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Generic, TypeVar

from msgspec import Struct

from agent_broker.admission.standing import ProcessKey
from agent_broker.ids import Uid

Holder = TypeVar("Holder", bound=Hashable)


class Room(IntEnum):
    """Whether there is a place for a newcomer. As a truth value: yes or no."""

    NONE = 0
    MADE = 1
    """Somebody lost one for it."""
    FREE = 2


class Shares(Struct, frozen=True):
    """How many places there are."""

    connections: int
    """Of everybody."""
    per_uid: int
    lesser_per_uid: int
    per_process: int
    """Lesser places of one process, or all of them where a process counts none as better."""


class _Place(Struct):
    uid: Uid | None
    process: ProcessKey | None
    is_lesser: bool

    @property
    def owner(self) -> ProcessKey | tuple[Uid | None]:
        """Those of a user's processes that are not known count as one."""
        return (self.uid,) if self.process is None else self.process


class Places(Generic[Holder]):
    """See the module."""

    def __init__(
        self, shares: Shares, end: Callable[[Holder], object], is_heard: Callable[[Holder], bool] = lambda _: False
    ) -> None:
        """Give nobody a place yet.

        Args:
            shares: how many there are.
            end: ends a holder that has to give up its place; it has none any more when that is called.
            is_heard: whether a holder's request is here although nobody has read it yet: then it has asked.
        """
        self._shares = shares
        self._end = end
        self._is_heard = is_heard
        self._places: dict[Holder, _Place] = {}
        self._idle: dict[Holder, None] = {}
        self._by_uid: Counter[Uid | None] = Counter()
        self._lesser: Counter[Uid | None] = Counter()
        self._by_process: Counter[ProcessKey | tuple[Uid | None]] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def holders(self) -> tuple[Holder, ...]:
        """Return all, oldest first."""
        return tuple(self._places)

    def make_room_for(self, uid: Uid | None, process: ProcessKey | None = None, *, is_lesser: bool = False) -> Room:
        """Return whether such a place is free now; may end idle holders."""
        shares = self._shares
        if process is not None and self._by_process[process] >= shares.per_process:
            return self._end_idle(lambda place: place.process == process)
        if is_lesser and self._lesser[uid] >= shares.lesser_per_uid:
            return self._end_idle(lambda place: place.uid == uid and place.is_lesser)
        if self._by_uid[uid] >= shares.per_uid:
            return self._end_idle(lambda place: place.uid == uid)
        return Room.FREE if len(self._places) < shares.connections else self._end_idle(lambda _: True)

    def end_one_idle(self) -> None:
        """End the oldest idle one, if there is one."""
        self._end_idle(lambda _: True)

    def take(
        self, holder: Holder, uid: Uid | None, process: ProcessKey | None = None, *, is_lesser: bool = False
    ) -> None:
        """Give a place to somebody who has not asked yet."""
        self._places[holder] = _Place(uid, process, is_lesser)
        self._idle[holder] = None
        self._count(self._places[holder], 1)

    def has_asked(self, holder: Holder) -> None:
        """Its request is here: it will not be ended to make room."""
        self._idle.pop(holder, None)

    def is_idle(self, holder: Holder) -> None:
        """It has its answer, and asks nothing now. Only a lesser place can be lost by that."""
        place = self._places.get(holder)
        if place is not None and place.is_lesser:
            self._idle[holder] = None

    def promote(self, holder: Holder) -> None:
        """It has earned a better place: it keeps it until it leaves, idle or not."""
        place = self._places.get(holder)
        if place is None or not place.is_lesser:
            return
        self._idle.pop(holder, None)
        self._count(place, -1)
        place.is_lesser, place.process = False, None
        self._count(place, 1)

    def leave(self, holder: Holder) -> None:
        """Free its place; harmless if it has none."""
        self._idle.pop(holder, None)
        place = self._places.pop(holder, None)
        if place is not None:
            self._count(place, -1)

    def _count(self, place: _Place, change: int) -> None:
        _add(self._by_uid, place.uid, change)
        if place.is_lesser:
            _add(self._lesser, place.uid, change)
        _add(self._by_process, place.owner, change)

    def _end_idle(self, fits: Callable[[_Place], bool]) -> Room:
        fitting = {holder: None for holder in self._idle if fits(self._places[holder])}
        while fitting:
            greediest = max(fitting, key=self._held_by_owner)  # the first of equals
            if not self._is_heard(greediest):
                self.leave(greediest)
                self._end(greediest)
                return Room.MADE
            self.has_asked(greediest)
            del fitting[greediest]
        return Room.NONE

    def _held_by_owner(self, holder: Holder) -> int:
        return self._by_process[self._places[holder].owner]


_Key = TypeVar("_Key")


def _add(counter: Counter[_Key], key: _Key, change: int) -> None:
    counter[key] += change
    if not counter[key]:
        del counter[key]
