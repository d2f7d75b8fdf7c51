"""Who is next of those that wait, and who has to go: decided where their recorded lineages part.

A *side* is a process with all that descends from it, or what a process asks for itself, which is a side of its own
beside its children's. The path of a question leads from the origin of its asker's lineage to the asker. Next is who
comes from the less charged side, from the origin on. So whoever forks for each question stands behind all that was done
for its lineage, while another lineage, above, beside or below it, goes first. The paths are the kernel side's record,
which no fork, setsid, exit or exec changes: nobody gets a fresh side but by having somebody else fork for it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from agent_broker.ids import ProcId

Side = tuple[ProcId, bool]
"""A process and all below it; True: what it asks for itself."""

Path = tuple[Side, ...]
"""The origin first, at the end the asker alone."""

_HALVED_IN_S: Final = 10.0
_REMEMBERED: Final = 8192
"""Sides with a charge; those that were charged longest ago are forgotten, so never those who ask now."""

Waiter = TypeVar("Waiter")


def path_of(processes: Sequence[ProcId]) -> Path:
    """Return the path of an asker; ``processes``: it first, then its parents. Those of unknown lineage are one side."""
    processes = processes or (ProcId(0),)
    return (*((each, False) for each in reversed(processes)), (processes[0], True))


class Charges:
    """What was done for each side lately: halved every ten seconds. Bounded."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic, *, free: float = 0.0) -> None:
        """Charge nothing yet.

        Args:
            now_s: a clock that never goes back, in seconds.
            free: sides that are charged no more than this are equals: who asks modestly takes turns with new ones.
        """
        self._now_s = now_s
        self._free = free
        self._charges: OrderedDict[Side, tuple[float, float]] = OrderedDict()
        """How much, and when that was so."""

    def __len__(self) -> int:
        return len(self._charges)

    def of(self, side: Side) -> float:
        """Return what a side is charged now, beyond what is free."""
        return max(0.0, self._now(side, self._now_s()) - self._free) if side in self._charges else 0.0

    def add(self, path: Path, amount: float) -> None:
        """Charge every side on a path."""
        now_s = self._now_s()
        for side in reversed(path):  # the origin last, so that it is forgotten last
            self._charges[side] = (self._now(side, now_s) + amount, now_s)
            self._charges.move_to_end(side)
        while len(self._charges) > _REMEMBERED:
            self._charges.popitem(last=False)

    def _now(self, side: Side, now_s: float) -> float:
        amount, at_s = self._charges.get(side, (0.0, now_s))
        return float(amount * 0.5 ** ((now_s - at_s) / _HALVED_IN_S))


class _Node(Generic[Waiter]):
    """One side of which somebody waits."""

    __slots__ = ("count", "sides", "waiters")

    def __init__(self) -> None:
        self.count = 0
        """How many wait here and below."""
        self.sides: dict[Side, _Node[Waiter]] = {}
        """Those that came, or had their turn, longest ago first."""
        self.waiters: dict[Waiter, None] = {}
        """Of an asker itself, in the order in which they came."""


class Queue(Generic[Waiter]):
    """Those who wait. To take one costs as much as its path is long, and as there are sides where it parts."""

    def __init__(self, charges: Charges) -> None:
        """``charges``: may be shared, and change at any time."""
        self._charges = charges
        self._root: _Node[Waiter] = _Node()
        self._paths: dict[Waiter, Path] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, path: Path, waiter: Waiter) -> None:
        """Let somebody wait; nobody waits twice."""
        node = self._root
        for side in path:
            node = node.sides.setdefault(side, _Node())
            node.count += 1
        node.waiters[waiter] = None
        self._paths[waiter] = path

    def discard(self, waiter: Waiter) -> None:
        """Let somebody go; harmless if it does not wait."""
        path = self._paths.pop(waiter, None)
        if path is None:
            return
        way = [self._root]
        for side in path:
            way.append(way[-1].sides[side])
        del way[-1].waiters[waiter]
        for node, side in zip(way, path, strict=False):
            node.sides[side].count -= 1
            if not node.sides[side].count:
                del node.sides[side]
                return

    def take(self) -> Waiter | None:
        """Take out who comes from the least charged side, of equals the one whose turn was longest ago."""
        node = self._root
        while node.sides:
            side = min(node.sides, key=self._charges.of) if len(node.sides) > 1 else next(iter(node.sides))
            following = node.sides.pop(side)
            node.sides[side] = following  # behind its equals from now on
            node = following
        return self._out(next(iter(node.waiters), None))

    def take_most_charged(self) -> Waiter | None:
        """Take out who comes from the most charged side, of equals from where most wait, the last that came."""
        node = self._root
        while node.sides:
            sides = node.sides
            node = sides[max(reversed(sides), key=lambda side: (self._charges.of(side), sides[side].count))]
        return self._out(next(reversed(node.waiters), None))

    def _out(self, waiter: Waiter | None) -> Waiter | None:
        if waiter is not None:
            self.discard(waiter)
        return waiter
