"""The backend ``bcc``: the same lineage events as ``core``, from programs that were compiled here (ADR 13)."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from agent_broker.kernel.bcc import headers
from agent_broker.kernel.bcc.programs import BccPrograms
from agent_broker.kernel.bcc.queries import QueriedPrograms, QueryMaps
from agent_broker.kernel.bcc.records import BccMaps
from agent_broker.kernel.bcc.self_check import Probe, Seen, require_right
from agent_broker.kernel.events import Event
from agent_broker.kernel.sensor import KernelSensor

_DEFAULT_RING_BYTES: Final = 8 << 20
Offsets = Literal["auto", "btf", "headers"]
"""Where the fields of kernel structures are learnt: from the kernel's own types, or from its headers; ``auto``: from
the headers if it tells no types."""


class BccSensor(KernelSensor):
    """The programs of bpf/bcc (backend ``bcc``).

    Attributes:
        offsets: ``btf`` or ``headers``: which it is.
    """

    def __init__(
        self,
        sink: Callable[[Event], None],
        *,
        ring_bytes: int = _DEFAULT_RING_BYTES,
        offsets: Offsets = "auto",
        root: Path = headers.ROOT,
    ) -> None:
        """Compile, load, attach, seed, and see that the right fields are read: see KernelSensor.

        Args:
            sink: gets every event.
            ring_bytes: size of the event ring.
            offsets: see Offsets.
            root: of the file system where headers are looked for.

        Raises:
            UnavailableError: too: the sensor does not see its own doing as it is, or the headers are not those of the
                running kernel.
        """
        self.offsets = offsets_here(offsets)
        programs, maps = _loaded(self.offsets, ring_bytes, root)
        self._sink = sink
        self._seen: list[Event] | None = None
        try:
            super().__init__(programs, maps, self._take)
            self._check(maps)
        except BaseException:
            programs.close()
            raise

    def _take(self, event: Event) -> None:
        if self._seen is not None:
            self._seen.append(event)
        self._sink(event)

    def _check(self, maps: BccMaps) -> None:
        self._seen = []
        probe = Probe()
        try:
            probe.has_answered()
            self.consume()
            seen = Seen(self._seen, maps.task_record(probe.pidfd), maps.start_ns(probe.pidfd))
            require_right(probe, seen, maps)
        finally:
            probe.close()
            self._seen = None


def offsets_here(offsets: Offsets) -> Literal["btf", "headers"]:
    """Return where the fields are learnt on this kernel."""
    if offsets == "auto":
        return "btf" if headers.BTF.exists() else "headers"
    return offsets


def _loaded(offsets: str, ring_bytes: int, root: Path) -> tuple[BccPrograms, BccMaps]:
    if offsets == "headers":
        queried = QueriedPrograms(ring_bytes=ring_bytes, root=root)
        return queried, QueryMaps(queried)
    programs = BccPrograms(ring_bytes=ring_bytes)
    return programs, BccMaps(programs)
