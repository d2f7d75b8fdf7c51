"""What the product asks of the kernel side, whichever backend serves it; and the default backend."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from agent_broker.ids import AgentName, Uid
from agent_broker.kernel.denials import Denials
from agent_broker.kernel.events import Event, FileFacts, OpenFile
from agent_broker.kernel.loader import Loaded, Programs
from agent_broker.kernel.maps import KernelMaps, Losses, TaskRecord
from agent_broker.kernel.marks import HOOKS, KernelMarks, agent_number
from agent_broker.kernel.process import real_uid
from agent_broker.kernel.ring import Ring
from agent_broker.kernel.seed import seed
from agent_broker.kernel.wire import decode_event

AT_ONCE = 65_536
"""Events of one ``consume``: more than a ring of the default size holds, so what was there when it began is taken; who
starts processes faster than we read does not hold everybody else up for ever."""

NEVER_ASKED = "the kernel has BPF LSM but never asks it: bpf is not in its list of security modules"


class Sensor(Protocol):
    """Lineage events and look-ups. Raises UnavailableError when the kernel refuses."""

    def consume(self) -> bool:
        """Hand every committed event to the sink, in order; return whether none is left that is not committed yet."""
        ...

    def task_record(self, pidfd: int) -> TaskRecord | None:
        """Return the numbers of the process behind a pidfd, None if it has none."""
        ...

    def real_uid(self, pidfd: int) -> Uid | None:
        """Return the real user id of the process behind a pidfd now, None if it has ended."""
        ...

    def losses(self) -> Losses:
        """Return the loss counters."""
        ...

    def register(self, dev: int, ino: int, *, guard: bool = False) -> None:
        """Capture the strings of every exec of this file from now on; ``guard``: and let nobody take hold of it."""
        ...

    def register_part(self, dev: int, ino: int) -> None:
        """Let registered programs map this file's code."""
        ...

    def unregister_part(self, dev: int, ino: int) -> None:
        """Stop that."""
        ...

    def guard(self, pidfd: int) -> bool:
        """Let nobody but root take hold of this process until its next exec; False: it can't be done here."""
        ...

    def let_through(self, pidfd: int, agent: AgentName, owner_uid: Uid) -> None:
        """Let this process, an agent's main one, open its agent's marks until its next exec, also without us."""
        ...

    def unregister(self, dev: int, ino: int) -> None:
        """Stop that."""
        ...

    def own_file(self, fd: int) -> OpenFile:
        """Return the kernel's numbers of a descriptor of this process."""
        ...

    def foreign_mappings(self, pid: int) -> tuple[FileFacts, ...]:
        """Return the files of a process's executable mappings that others than root could have made."""
        ...

    def watch_endpoints(self, tcp_port: int, name: FileFacts | None, sign_name: FileFacts | None = None) -> bool:
        """Note who writes on connections to the broker; False: this kernel can't tell."""
        ...

    def socket_holders(self, inode: int, *, pid: int = 0) -> tuple[OpenFile, ...]:
        """Return every descriptor, or every one of a process, that is this socket."""
        ...

    def other_end_of(self, inode: int, *, pid: int = 0) -> int:
        """Return the inode number of the unix socket that is connected to this one; 0: none that anybody holds."""
        ...


class KernelSensor:
    """Programs in the running kernel, of whichever backend: what they tell, and look-ups; closes with ``close``.

    Attributes:
        offsets: where the fields of kernel structures were learnt: ``btf``, its own types, or ``headers``.
        missing: hooks that are not there, and why (loader.Programs).
        epoll_fd: readable when much waits; ``consume`` must also be called every so often (Ring).
        marks: files that the kernel denies by itself; None: it can't.
        denials: who was denied something, or did something to us; None: it can't be told.
    """

    offsets: Literal["btf", "headers"] = "btf"

    def __init__(
        self, programs: Loaded, maps: KernelMaps, sink: Callable[[Event], None], *, pins: Path | None = None
    ) -> None:
        """Seed; the Seed events are handed to the sink before this returns.

        Args:
            programs: attached; closed by ``close``.
            maps: of the same programs.
            sink: gets every event.
            pins: a folder in bpffs for what must go on denying when this process is gone (kernel.marks).

        Raises:
            UnavailableError: the kernel or libbpf refused.
        """
        self._programs = programs
        events = programs.maps["events"]
        self._ring = Ring(programs.libbpf, events, lambda raw: sink(decode_event(raw)), at_most=AT_ONCE)
        self.epoll_fd = self._ring.epoll_fd
        self.consume = self._ring.consume
        self.task_record = maps.task_record
        self.real_uid = real_uid
        self.losses = maps.losses
        self.register = maps.register
        self.register_part = maps.register_part
        self.unregister_part = maps.unregister_part
        self.unregister = maps.unregister
        self.guard = maps.guard
        self.own_file = maps.own_file
        self.own_files = maps.own_files
        self.socket_holders = maps.socket_holders
        self.other_end_of = maps.other_end_of
        self.foreign_mappings = maps.foreign_mappings
        self.watch_endpoints = maps.watch_endpoints
        self.missing = programs.missing
        self.lost_links = programs.lost_links
        seed(programs)
        self.consume()
        self.marks = self._proven_marks(maps)
        self.denials = Denials(programs, maps, pins) if "opens" in programs.maps else None
        self.protect = maps.protect
        maps.protect_objects()

    @property
    def why_not_denied(self) -> str:
        """Why the kernel denies nothing by itself; empty: it does."""
        return "" if self.marks is not None else next(self.missing[name] for name in HOOKS if name in self.missing)

    def _proven_marks(self, maps: KernelMaps) -> KernelMarks | None:
        if not self.missing.keys().isdisjoint(HOOKS):
            return None
        marks = KernelMarks(self._programs, maps)
        if marks.prove():
            return marks
        self._programs.detach_lsm(NEVER_ASKED)
        return None

    def let_through(self, pidfd: int, agent: AgentName, owner_uid: Uid) -> None:
        """See Sensor; nothing where the kernel denies nothing."""
        if self.marks is not None:
            self.marks.let_through(pidfd, agent_number(agent, owner_uid))

    @property
    def consumed(self) -> int:
        """Events handed over since the start."""
        return self._ring.consumed

    def close(self) -> None:
        """Detach everything that is not pinned."""
        if self.denials is not None:
            self.denials.close()
        self._ring.close()
        self._programs.close()


class CoreSensor(KernelSensor):
    """The CO-RE programs (backend ``core``)."""

    def __init__(
        self, sink: Callable[[Event], None], *, ring_bytes: int | None = None, pins: Path | None = None
    ) -> None:
        """Load, attach and seed: see KernelSensor; ``ring_bytes``: None: as compiled."""
        programs = Programs(ring_bytes=ring_bytes)
        super().__init__(programs, KernelMaps(programs), sink, pins=pins)
