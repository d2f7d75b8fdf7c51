"""What the product asks of the kernel side, whichever backend serves it; and the default backend."""

from collections.abc import Callable
from typing import Protocol

from agent_broker.kernel.events import Event, OpenFile
from agent_broker.kernel.loader import Programs
from agent_broker.kernel.maps import KernelMaps, Losses, TaskRecord
from agent_broker.kernel.ring import Ring
from agent_broker.kernel.seed import seed


class Sensor(Protocol):
    """Lineage events and look-ups. Raises UnavailableError when the kernel refuses."""

    def consume(self) -> None:
        """Hand every committed event to the sink, in order."""
        ...

    def task_record(self, pidfd: int) -> TaskRecord | None:
        """Return the numbers of the process behind a pidfd, None if it has none."""
        ...

    def losses(self) -> Losses:
        """Return the loss counters."""
        ...

    def register(self, dev: int, ino: int) -> None:
        """Capture the strings of every exec of this file from now on."""
        ...

    def unregister(self, dev: int, ino: int) -> None:
        """Stop that."""
        ...

    def own_file(self, fd: int) -> OpenFile:
        """Return the kernel's numbers of a descriptor of this process."""
        ...

    def socket_holders(self, inode: int) -> tuple[OpenFile, ...]:
        """Return every descriptor that is this socket."""
        ...


class CoreSensor:
    """The CO-RE programs in the running kernel (backend ``core``): loads at once, closes with ``close``.

    Attributes:
        epoll_fd: readable when much waits; ``consume`` must also be called every so often (Ring).
    """

    def __init__(self, sink: Callable[[Event], None], *, ring_bytes: int | None = None) -> None:
        """Load, attach and seed; the Seed events are handed to the sink before this returns.

        Raises:
            UnavailableError: the kernel or libbpf refused.
        """
        self._programs = Programs(ring_bytes=ring_bytes)
        maps = KernelMaps(self._programs)
        self._ring = Ring(self._programs, sink)
        self.epoll_fd = self._ring.epoll_fd
        self.consume = self._ring.consume
        self.task_record = maps.task_record
        self.losses = maps.losses
        self.register = maps.register
        self.unregister = maps.unregister
        self.own_file = maps.own_file
        self.socket_holders = maps.socket_holders
        seed(self._programs)
        self.consume()

    @property
    def consumed(self) -> int:
        """Events handed over since the start."""
        return self._ring.consumed

    def close(self) -> None:
        """Detach everything."""
        self._ring.close()
        self._programs.close()
