"""The family tree: who forked whom, which images each process put in place, in the kernel's own numbers.

The law:
1. Only events of the kernel side change the store. Nothing is read from /proc to decide.
2. Records are kept as long as a live process descends from them, then in a bounded queue (for questions about
   processes that just ended), then dropped.
3. What is missing is a gap, and a gap is told, never bridged: an id that the store does not know makes the
   lineage unknown.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice

from msgspec import Struct, field

from agent_broker.ids import ExecId, Pid, ProcId
from agent_broker.kernel import wire
from agent_broker.kernel.events import Event, Exec, Exit, Fork, Seed, Strings, Taint
from agent_broker.lineage.image import image_of_exec, image_of_seed, own_image, tampering
from agent_broker.lineage.record import Captured, Image, Step

_KEPT_AFTER_EXIT = 16_384
_LOOKED_BACK = 1024
_MAX_STEPS = 128
"""Longer lineages are unknown: an answer must fit one message, and nobody works 128 shells deep."""
_KEPT_IMAGES = _MAX_STEPS + 1
"""Of one process: with more than that its lineage is unknown anyway, and a process can exec for ever."""
_EARLY_PROCESSES = 1024
"""Processes of which something arrived before their fork; more means lost Forks, and the oldest is dropped."""
_STRINGS_IN_FLIGHT = 64
"""Images whose strings arrived and whose Exec did not; more means lost Execs, and the oldest is dropped."""

Scan = Callable[[bytes, bytes], Captured]
"""(arguments, environment) of a registered image -> what is kept of them."""


def _ignore(_: object) -> None:
    return


class _Process:
    """One thread group. ``kin`` counts the records that need it: its children's."""

    __slots__ = (
        "depth", "exited", "gap", "image", "images", "kin", "parent", "parent_exec_id", "pid", "proc_id", "queued",
        "taints",
    )  # fmt: skip

    def __init__(self, proc_id: ProcId, pid: Pid, parent_exec_id: ExecId) -> None:
        self.proc_id = proc_id
        self.pid = pid
        self.parent: _Process | None = None
        self.parent_exec_id = parent_exec_id
        self.gap = ""
        """Why its parent is unknown although it has one."""
        self.image = parent_exec_id
        """What it runs."""
        self.images: list[ExecId] = []
        self.depth = 0
        """Steps from here to the origin, those of its own images left out."""
        self.taints: dict[ExecId, int] = {}
        """What was done to it, by the image that it ran then; few are ever tainted."""
        self.kin = 0
        self.exited = False
        self.queued = False


class _Early(Struct):
    """What arrived about a process before its fork did."""

    exited: bool = False
    taints: dict[ExecId, int] = field(default_factory=dict)


class Lineage:
    """A walk towards the origin. ``gap`` says why it is incomplete; empty: it is complete."""

    __slots__ = ("gap", "steps")

    def __init__(self, steps: tuple[Step, ...], gap: str) -> None:
        self.steps = steps
        self.gap = gap


class Store:
    """See the module. Not thread-safe: fed and asked by one event loop."""

    def __init__(self, scan: Scan, name_of_pid: Callable[[Pid], str], kept_after_exit: int = _KEPT_AFTER_EXIT) -> None:
        """Make an empty store.

        Args:
            scan: says what to keep of the strings of registered images.
            name_of_pid: a display name for processes older than the monitor.
            kept_after_exit: ended processes that are remembered although nobody descends from them.
        """
        self._kept_after_exit = kept_after_exit
        self._seeding = True
        self._scan = scan
        self._name_of_pid = name_of_pid
        self._processes: dict[ProcId, _Process] = {}
        self._images: dict[ExecId, Image | Exec] = {}
        self._captured: dict[ExecId, Captured] = {}
        self._strings: dict[ExecId, bytearray] = {}
        self._early: dict[ProcId, _Early] = {}
        self._ended: deque[_Process] = deque()
        self._seeded: dict[Pid, _Process] = {}
        self._orphans: list[tuple[_Process, Pid]] = []
        self.live = 0
        self.newest = ProcId(0)
        """The highest number of a process so far; the kernel side gives them in the order in which processes come."""
        self.tampered = 0
        """Taint events that were applied."""
        self.on_taint: Callable[[Taint], None] = _ignore
        """Called after the event was applied, as are the others; must not ask the store's feeder for more events."""
        self.on_captured: Callable[[Exec], None] = _ignore
        """Called for each exec of a registered file."""

    @property
    def images(self) -> int:
        """Images in memory."""
        return len(self._images)

    def apply(self, event: Event) -> None:
        """Take one event of the kernel side."""
        match event:
            case Exec():
                self._exec(event)
            case Fork():
                self._fork(event)
            case Exit():
                self._exit(event)
            case Strings():
                self._collect(event)
            case Seed():
                self._seed(event)
            case Taint():
                self._taint(event)

    def end_unless(self, lives: Callable[[ProcId, Pid], bool]) -> int:
        """End every process that does not live any more although no Exit told so; return how many.

        For when Exits were lost: their processes would be remembered for ever. Of no consequence for who anybody is.
        """
        gone = [each for each in self._processes.values() if not each.exited and not lives(each.proc_id, each.pid)]
        for process in gone:
            self._end(process)
        return len(gone)

    def link_seeded(self) -> None:
        """Join the processes of the seed pass with their parents; call once, when its events were applied."""
        for process, parent_pid in self._orphans:
            parent = self._seeded.get(parent_pid)
            if parent is not None and parent is not process and parent.images:
                self._adopt(process, parent, parent.images[0])
        self._orphans.clear()
        self._seeded.clear()
        self._seeding = False

    def knows(self, proc_id: ProcId, exec_id: ExecId) -> bool:
        """Tell whether both ids have arrived."""
        return proc_id in self._processes and exec_id in self._images

    def ended(self, pid: Pid) -> tuple[ProcId, ExecId] | None:
        """Return the process that ended last under this pid, and what it ran last; None: not among the newest.

        For display only: the pid may have been another's at the time that is meant.
        """
        for process in islice(reversed(self._ended), _LOOKED_BACK):
            if process.pid == pid:
                return process.proc_id, process.image
        return None

    def runs(self, proc_id: ProcId, exec_id: ExecId) -> bool:
        """Tell whether a process lives and its latest image is this one."""
        process = self._processes.get(proc_id)
        return process is not None and not process.exited and process.image == exec_id

    def taints_of(self, proc_id: ProcId, exec_id: ExecId) -> int:
        """Return kernel.wire's TAINT bits of a process while it ran an image; 0 also for one that is not known."""
        process = self._processes.get(proc_id)
        return 0 if process is None else process.taints.get(exec_id, 0)

    def captured(self, exec_id: ExecId) -> Captured | None:
        """Return what was kept of an image's strings; None: they were not captured, its file was not registered."""
        return self._captured.get(exec_id)

    def image(self, exec_id: ExecId) -> Image | None:
        """Return an image, decoded at the first question."""
        found = self._images.get(exec_id)
        if isinstance(found, Exec):
            found = image_of_exec(found)
            self._images[exec_id] = found
        return found

    def lineage(self, proc_id: ProcId, exec_id: ExecId) -> Lineage:
        """Walk from a process, running the image ``exec_id``, to its origin."""
        process = self._processes.get(proc_id)
        steps: list[Step] = []
        relation = "self"
        while process is not None:
            gap = self._walk_process(process, exec_id, relation, steps)
            if gap:
                return Lineage(tuple(steps), gap)
            relation = "fork"
            exec_id = process.parent_exec_id
            if process.gap:
                return Lineage(tuple(steps), process.gap)
            process = process.parent
        if not steps:
            return Lineage((), f"process {proc_id} is not in the recorded lineage")
        gap = "" if exec_id == 0 else f"the parent of process {steps[-1].proc_id} is not in the recorded lineage"
        return Lineage(tuple(steps), gap)

    def ancestors(self, proc_id: ProcId) -> tuple[ProcId, ...]:
        """Return a process and all it descends from, the origin last; empty if that is not known without a gap."""
        found: list[ProcId] = []
        process = self._processes.get(proc_id)
        while process is not None:
            found.append(process.proc_id)
            if process.parent is None and (process.gap or process.parent_exec_id):
                return ()
            process = process.parent
        return tuple(found)

    def _walk_process(self, process: _Process, exec_id: ExecId, relation: str, steps: list[Step]) -> str:
        """Append the images of one process from ``exec_id`` back to its first; return a gap or nothing.

        Each image names the one that it replaced, so an Exec that is missing in between is a gap too.
        """
        while True:
            image = self.image(exec_id)
            own = image is not None and own_image(image, process.proc_id)
            if image is None or not (own or exec_id == process.parent_exec_id):
                return f"image {exec_id} of process {process.proc_id} is not in the recorded lineage"
            if len(steps) >= _MAX_STEPS:
                return f"the lineage is longer than {_MAX_STEPS} steps"
            tampered = tampering(process.taints.get(exec_id, 0))
            steps.append(Step(process.proc_id, image, relation, process.exited, tampered, None, process.pid))
            if not own or not image.observed or image.previous_exec_id == process.parent_exec_id:
                return ""
            relation, exec_id = "exec", image.previous_exec_id

    def _fork(self, event: Fork) -> None:
        parent = self._processes.get(event.parent_proc_id)
        child = _Process(event.proc_id, event.child_pid, event.exec_id)
        if parent is not None:
            self._adopt(child, parent, event.exec_id)
            if event.exec_id in parent.taints:
                child.taints[event.exec_id] = parent.taints[event.exec_id]  # its memory is a copy
        self._add(child)

    def _add(self, process: _Process) -> None:
        """Take a new process in, with what arrived about it before."""
        self._processes[process.proc_id] = process
        self.newest = max(self.newest, process.proc_id)
        self.live += 1
        early = self._early.pop(process.proc_id, None)
        if early is None:
            return
        for exec_id, taints in early.taints.items():
            process.taints[exec_id] = process.taints.get(exec_id, 0) | taints
        if early.exited:
            self._end(process)

    def _early_of(self, proc_id: ProcId) -> _Early:
        early = self._early.setdefault(proc_id, _Early())
        while len(self._early) > _EARLY_PROCESSES:
            del self._early[next(iter(self._early))]
        return early

    def _adopt(self, child: _Process, parent: _Process, exec_id: ExecId) -> None:
        child.parent_exec_id = exec_id
        own = parent.images.index(exec_id) + 1 if exec_id in parent.images else 1
        if parent.depth + own >= _MAX_STEPS:  # unknown either way, and who forks for ever would keep all ancestors
            child.gap = f"the lineage is longer than {_MAX_STEPS} steps"
            return
        child.depth = parent.depth + own
        child.parent = parent
        parent.kin += 1

    def _exec(self, event: Exec) -> None:
        process = self._processes.get(event.proc_id)
        if process is None:  # its fork was lost: it stays unknown
            self._strings.pop(event.exec_id, None)
            return
        process.images.append(event.exec_id)
        process.image = max(process.image, event.exec_id)
        self._images[event.exec_id] = event
        if len(process.images) > _KEPT_IMAGES:
            self._forget_image(process, process.images.pop(0))
        flags, args_bytes, strings_bytes = wire.exec_flags(event)
        if flags & wire.EXEC_REGISTERED:
            self._captured[event.exec_id] = self._capture(event.exec_id, flags, args_bytes, strings_bytes)
            self.on_captured(event)

    def _capture(self, exec_id: ExecId, flags: int, args_bytes: int, strings_bytes: int) -> Captured:
        strings = self._strings.pop(exec_id, bytearray())
        if flags & wire.EXEC_STRINGS_TOO_LONG:
            limit = f"{wire.MAX_STRINGS_BYTES // 1024} KiB"
            return Captured(b"", (), f"its environment is longer than {limit} and was not read")
        if flags & wire.EXEC_STRINGS_LOST or len(strings) != strings_bytes:
            return Captured(b"", (), "its environment could not be read")
        return self._scan(bytes(strings[:args_bytes]), bytes(strings[args_bytes:]))

    def _taint(self, event: Taint) -> None:
        if event.taint != wire.TAINT_DENIED:  # a hold that nobody got leaves no mark
            process = self._processes.get(event.proc_id)
            taints = self._early_of(event.proc_id).taints if process is None else process.taints
            taints[event.exec_id] = taints.get(event.exec_id, 0) | event.taint
        self.tampered += 1
        self.on_taint(event)

    def _collect(self, event: Strings) -> None:
        strings = self._strings.setdefault(event.exec_id, bytearray())
        if len(strings) == event.offset_bytes:  # a missing piece leaves the length short: "could not be read"
            strings += event.piece
        while len(self._strings) > _STRINGS_IN_FLIGHT:
            del self._strings[next(iter(self._strings))]

    def _seed(self, event: Seed) -> None:
        process = _Process(event.proc_id, event.pid, ExecId(0))
        process.images.append(event.exec_id)
        process.image = event.exec_id
        self._images[event.exec_id] = image_of_seed(event, self._name_of_pid(event.pid))
        if self._seeding:
            self._seeded[event.pid] = process
            self._orphans.append((process, event.parent_pid))
        else:  # it had no record although it was forked under our eyes: memory was short
            process.gap = f"the parent of process {event.proc_id} is not in the recorded lineage"
        self._add(process)

    def _exit(self, event: Exit) -> None:
        process = self._processes.get(event.proc_id)
        if process is None:
            self._early_of(event.proc_id).exited = True
        elif not process.exited:
            self._end(process)

    def _end(self, process: _Process) -> None:
        process.exited = True
        process.queued = True
        self.live -= 1
        self._ended.append(process)
        while len(self._ended) > self._kept_after_exit:
            oldest = self._ended.popleft()
            oldest.queued = False
            self._drop(oldest)

    def _drop(self, process: _Process | None) -> None:
        """Forget an ended process that nobody needs, and the ancestors that were kept only for it."""
        while process is not None and process.exited and not process.queued and process.kin == 0:
            del self._processes[process.proc_id]
            for exec_id in process.images:
                self._forget_image(process, exec_id)
            if process.parent is not None:
                process.parent.kin -= 1
            process = process.parent

    def _forget_image(self, process: _Process, exec_id: ExecId) -> None:
        process.taints.pop(exec_id, None)
        self._images.pop(exec_id, None)
        self._captured.pop(exec_id, None)
