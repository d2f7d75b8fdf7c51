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

from agent_broker.ids import ExecId, Pid, ProcId
from agent_broker.kernel import wire
from agent_broker.kernel.events import Event, Exec, Exit, Fork, Seed, Strings
from agent_broker.lineage.image import image_of_exec, image_of_seed
from agent_broker.lineage.record import Image, Step

_KEPT_AFTER_EXIT = 16_384
_MAX_STEPS = 128
"""Longer lineages are unknown: an answer must fit one message, and nobody works 128 shells deep."""
_STRINGS_IN_FLIGHT = 64
"""Images whose strings arrived and whose Exec did not; more means lost Execs, and the oldest is dropped."""

Judge = Callable[[bytes, bytes], tuple[str, ...]]
"""(arguments, environment) of a registered image -> taints. The strings are dropped after it."""


class _Process:
    """One thread group. ``kin`` counts the records that need it: its children's."""

    __slots__ = ("exited", "images", "kin", "parent", "parent_exec_id", "pid", "proc_id", "queued")

    def __init__(self, proc_id: ProcId, pid: Pid, parent: "_Process | None", parent_exec_id: ExecId) -> None:
        self.proc_id = proc_id
        self.pid = pid
        self.parent = parent
        self.parent_exec_id = parent_exec_id
        self.images: list[ExecId] = []
        self.kin = 0
        self.exited = False
        self.queued = False


class Lineage:
    """A walk towards the origin. ``gap`` says why it is incomplete; empty: it is complete."""

    __slots__ = ("gap", "steps")

    def __init__(self, steps: tuple[Step, ...], gap: str) -> None:
        self.steps = steps
        self.gap = gap


class Store:
    """See the module. Not thread-safe: fed and asked by one event loop."""

    def __init__(
        self, judge: Judge, name_of_pid: Callable[[Pid], str], kept_after_exit: int = _KEPT_AFTER_EXIT
    ) -> None:
        """Make an empty store.

        Args:
            judge: looks for taints in the strings of registered images.
            name_of_pid: a display name for processes older than the monitor.
            kept_after_exit: ended processes that are remembered although nobody descends from them.
        """
        self._kept_after_exit = kept_after_exit
        self._seeding = True
        self._judge = judge
        self._name_of_pid = name_of_pid
        self._processes: dict[ProcId, _Process] = {}
        self._images: dict[ExecId, Image | Exec] = {}
        self._taints: dict[ExecId, tuple[str, ...]] = {}
        self._strings: dict[ExecId, bytearray] = {}
        self._ended: deque[_Process] = deque()
        self._seeded: dict[Pid, _Process] = {}
        self._orphans: list[tuple[_Process, Pid]] = []
        self.live = 0

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

    def runs(self, proc_id: ProcId, exec_id: ExecId) -> bool:
        """Tell whether a process lives and its latest image is this one."""
        process = self._processes.get(proc_id)
        if process is None or process.exited:
            return False
        return (process.images[-1] if process.images else process.parent_exec_id) == exec_id

    def image(self, exec_id: ExecId) -> Image | None:
        """Return an image, decoded at the first question."""
        found = self._images.get(exec_id)
        if isinstance(found, Exec):
            found = image_of_exec(found, self._taints.pop(exec_id, ()))
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
            process = process.parent
        if not steps:
            return Lineage((), f"process {proc_id} is not in the recorded lineage")
        gap = "" if exec_id == 0 else f"the parent of process {steps[-1].proc_id} is not in the recorded lineage"
        return Lineage(tuple(steps), gap)

    def _walk_process(self, process: _Process, exec_id: ExecId, relation: str, steps: list[Step]) -> str:
        """Append the images of one process from ``exec_id`` back to its first; return a gap or nothing."""
        own = process.images
        upto = own.index(exec_id) if exec_id in own else -1
        if upto < 0 and exec_id != process.parent_exec_id:
            return f"image {exec_id} of process {process.proc_id} is not in the recorded lineage"
        wanted = [exec_id] if upto < 0 else own[upto::-1]
        for each in wanted:
            image = self.image(each)
            if image is None:
                return f"image {each} of process {process.proc_id} is not in the recorded lineage"
            if len(steps) >= _MAX_STEPS:
                return f"the lineage is longer than {_MAX_STEPS} steps"
            steps.append(Step(process.proc_id, image, relation, process.exited))
            relation = "exec"
        return ""

    def _fork(self, event: Fork) -> None:
        parent = self._processes.get(event.parent_proc_id)
        child = _Process(event.proc_id, event.child_pid, None, event.exec_id)
        if parent is not None:
            self._adopt(child, parent, event.exec_id)
        self._processes[event.proc_id] = child
        self.live += 1

    def _adopt(self, child: _Process, parent: _Process, exec_id: ExecId) -> None:
        child.parent = parent
        child.parent_exec_id = exec_id
        parent.kin += 1

    def _exec(self, event: Exec) -> None:
        process = self._processes.get(event.proc_id)
        if process is None:  # its fork was lost: it stays unknown
            self._strings.pop(event.exec_id, None)
            return
        process.images.append(event.exec_id)
        self._images[event.exec_id] = event
        taints = self._taints_of_strings(event)
        if taints:
            self._taints[event.exec_id] = taints

    def _taints_of_strings(self, event: Exec) -> tuple[str, ...]:
        flags, args_bytes, strings_bytes = wire.exec_flags(event)
        if not flags & wire.EXEC_REGISTERED:
            return ()
        strings = self._strings.pop(event.exec_id, bytearray())
        if flags & wire.EXEC_STRINGS_TOO_LONG:
            return (f"its environment is longer than {wire.MAX_STRINGS_BYTES // 1024} KiB and was not read",)
        if flags & wire.EXEC_STRINGS_LOST or len(strings) != strings_bytes:
            return ("its environment could not be read",)
        return self._judge(bytes(strings[:args_bytes]), bytes(strings[args_bytes:]))

    def _collect(self, event: Strings) -> None:
        strings = self._strings.setdefault(event.exec_id, bytearray())
        if len(strings) == event.offset_bytes:  # a missing piece leaves the length short: "could not be read"
            strings += event.piece
        while len(self._strings) > _STRINGS_IN_FLIGHT:
            del self._strings[next(iter(self._strings))]

    def _seed(self, event: Seed) -> None:
        process = _Process(event.proc_id, event.pid, None, ExecId(0))
        process.images.append(event.exec_id)
        self._images[event.exec_id] = image_of_seed(event, self._name_of_pid(event.pid))
        self._processes[event.proc_id] = process
        if self._seeding:
            self._seeded[event.pid] = process
            self._orphans.append((process, event.parent_pid))
        self.live += 1

    def _exit(self, event: Exit) -> None:
        process = self._processes.get(event.proc_id)
        if process is None or process.exited:
            return
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
                self._images.pop(exec_id, None)
                self._taints.pop(exec_id, None)
            if process.parent is not None:
                process.parent.kin -= 1
            process = process.parent
