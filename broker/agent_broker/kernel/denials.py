"""Who was denied something, or did something to us: a ring apart from lineage's, pinned so that it outlives us."""

from collections.abc import Callable
from pathlib import Path

from agent_broker.errors import UnavailableError
from agent_broker.kernel import wire
from agent_broker.kernel.events import Denial
from agent_broker.kernel.loader import Loaded
from agent_broker.kernel.maps import KernelMaps
from agent_broker.kernel.marks import HOOKS
from agent_broker.kernel.pins import Pins
from agent_broker.kernel.ring import Ring

AT_ONCE = 256  # records of one turn of the event loop
_PINNED = (*HOOKS, "guard", "kill", "map_access", "program_access")


class Denials:
    """One event loop's.

    Attributes:
        epoll_fd: readable when something is told.
        problem: why what denies ends with this process; empty: it does not, or nothing denies.
    """

    def __init__(self, programs: Loaded, maps: KernelMaps, pins: Path | None) -> None:
        """Open the ring; pin it, and what denies.

        Args:
            programs: attached.
            maps: of the same programs.
            pins: folder for this installation's pins; None: nothing outlives this process.
        """
        self._losses = maps.losses
        self._sink: Callable[[Denial], None] = _nobody
        self._ring = Ring(
            programs.libbpf, programs.maps["opens"], lambda raw: self._sink(wire.decode_denial(raw)), at_most=AT_ONCE
        )
        self.epoll_fd = self._ring.epoll_fd
        self.problem = ""
        self._pins: Pins | None = None
        self._denies = False
        if pins is not None:
            self._pin(programs, pins)

    @property
    def lost(self) -> int:
        """Denials that were not told, since the start."""
        return self._losses().denial

    def consume(self, sink: Callable[[Denial], None]) -> None:
        """Hand over everything that is told by now.

        Raises:
            IntegrityError: a malformed record.
        """
        self._sink = sink
        self._ring.consume()

    def take_over(self, sink: Callable[[Denial], None]) -> int:
        """Remove the programs of earlier monitors, now that our marks are set; return how many monitors' they were.

        Args:
            sink: gets what was told while nobody read it; numbers of processes are of another count than ours.

        Raises:
            UnavailableError: they can't be removed.
        """
        if self._pins is None:
            return 0

        def take(raw: bytes) -> None:
            if len(raw) == wire.DENIED_BYTES:  # else: of another version
                sink(wire.decode_denial(raw))

        return self._pins.take_over(take)

    def close(self) -> None:
        """Stop reading. What denies stays pinned; if nothing does, nothing stays."""
        self._ring.close()
        if self._pins is not None and not self._denies:
            self._pins.withdraw()

    def _pin(self, programs: Loaded, folder: Path) -> None:
        links = {name: programs.links[name] for name in _PINNED if name in programs.links}
        self._denies = bool(links)
        try:
            self._pins = Pins(programs.libbpf, folder, links, programs.maps["opens"])
        except UnavailableError as error:
            self.problem = error.explain() if links else ""


def _nobody(_: Denial) -> None:
    return
