"""A fake kernel whose events may get lost, wait, or overtake each other, as the test says for each one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from agent_broker.kernel import wire
from agent_broker.kernel.maps import Losses
from tests.fakes.kernel import FakeKernel

ARRIVES, WAITS, LOST, LOST_AND_COUNTED_LATER = "arrives", "waits", "lost", "lost, counted later"
_TAINT = wire.KIND_TAINT.to_bytes(4, "little")


@dataclass
class LossyKernel(FakeKernel):
    """``fate`` is asked about every event; what waits arrives when ``hand_over`` says so, in any order.

    While something waits, consume says that the ring is not empty, if it ``tells``. If it does not, the store is on its
    own; then no Taint waits, since nobody could know of it.
    """

    on_consume: Callable[[], None] = lambda: None
    fate: Callable[[], str] = lambda: ARRIVES
    waiting: list[bytes] = field(default_factory=list)
    tells: bool = True
    lost_taints: int = 0
    uncounted: int = 0
    harmed: int = 0
    """Events that did not arrive at once and in order, ever."""

    def _emit(self, *event):
        before = len(self.queue)
        super()._emit(*event)
        if len(self.queue) == before:
            return
        fate, is_taint = self.fate(), self.queue[-1].startswith(_TAINT)
        if fate == ARRIVES or (fate == WAITS and is_taint and not self.tells):
            return
        raw = self.queue.pop()
        self.harmed += 1
        if fate == WAITS:
            self.waiting.append(raw)
        elif is_taint:  # its bit and its loss are set in one hook: nobody asks in between
            self.lost_taints += 1
        elif fate == LOST:
            self.lost += 1
        else:
            self.uncounted += 1

    def consume(self) -> bool:
        self.on_consume()
        return super().consume() and not (self.tells and self.waiting)

    def losses(self) -> Losses:
        return Losses(fork=self.lost, exec=0, exit=0, seed=0, strings=0, record=0, taint=self.lost_taints)

    def hand_over(self, number: int) -> None:
        self.queue.append(self.waiting.pop(number % len(self.waiting)))

    def count_losses(self) -> None:
        self.lost, self.uncounted = self.lost + self.uncounted, 0
