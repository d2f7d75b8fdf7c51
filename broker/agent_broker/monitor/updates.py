"""Who writes new versions of enrolled agents: the folders in which one may appear are watched, and each writer named.

What is kept of a file is kept under its inode, so a rename changes nothing. It is a record, not a barrier: a writer is
looked up when its event is read, mostly within a millisecond. One that had ended by then is named by its number, with
that said; one that has executed another program meanwhile is told by when it executed it (see preapproval).

Bounded: so many files, writers and folders; what is beyond is said to be not recorded. A user's process can flood the
queue: the events are read in slices with a pause, and once the kernel dropped some, no trace is complete any more.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from agent_broker.clock import Clock
from agent_broker.disk import replace_file, require_private
from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor import fanotify
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.fanotify import Change, FileKey, Group, file_key
from agent_broker.monitor.provenance import (
    MAX_WRITERS,
    Provenance,
    Seen,
    Trace,
    Writer,
    not_recorded,
    number_of,
    writer_of,
)

_ENTRIES = fanotify.FAN_CREATE | fanotify.FAN_MOVED_TO
_CONTENT = fanotify.FAN_MODIFY | fanotify.FAN_CLOSE_WRITE
_MASK = _ENTRIES | _CONTENT | fanotify.FAN_EVENT_ON_CHILD | fanotify.FAN_ONDIR
_MAX_FILES = 512
_MAX_FOLDERS = 256
_MAX_BELOW = 3
"""How deep folders that appear are watched too: npm makes a package beside the old one, then renames it."""
_SLICE_PAUSE_S = 0.02
_QUIET_S = 1.0
"""After the last event, until traces are written down and an update is judged."""
_DRAINED_SLICES = 64
_DID = (
    (fanotify.FAN_CREATE, "created"),
    (fanotify.FAN_MODIFY, "wrote"),
    (fanotify.FAN_CLOSE_WRITE, "closed"),
    (fanotify.FAN_MOVED_TO, "named"),
)

_ENDED = "it had ended: named by its number, which may be another's"

_log = logging.getLogger(__name__)

Ended = Callable[[int], TaskRecord | None]
"""pid -> the numbers of the process that ended last under it (lineage.store)."""


class UpdateWatch:
    """See the module. Lives in the monitor's event loop."""

    def __init__(self, actors: Actors, ended: Ended, state_file: Path, clock: Clock) -> None:
        """Make the group, and read what the last monitor knew.

        Raises:
            UnavailableError: the kernel refuses: Linux 5.17 is needed.
        """
        names = fanotify.FAN_REPORT_FID | fanotify.FAN_REPORT_DIR_FID | fanotify.FAN_REPORT_NAME
        reports = names | fanotify.FAN_REPORT_TARGET_FID | fanotify.FAN_REPORT_PIDFD
        self._group = Group(fanotify.FAN_CLASS_NOTIF | fanotify.FAN_NONBLOCK | reports)
        self._actors = actors
        self._ended = ended
        self._state_file = state_file
        self._clock = clock
        self._traces: OrderedDict[FileKey, Trace] = OrderedDict((each.key, each) for each in _load(state_file))
        self._folders: dict[FileKey, tuple[str, int]] = {}
        """Path and depth below an enrolled place of every watched folder."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self.on_quiet: Callable[[], None] = lambda: None
        """Called when events have come, and no more do."""

    def start(self) -> None:
        """Serve from the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._group.fd, self._on_readable)

    def close(self) -> None:
        """Take what was queued, write it down, stop."""
        if self._loop is not None:
            self._drain()
            self._save()
            self._loop.remove_reader(self._group.fd)
            for timer in (self._quiet, self._pause):
                if timer is not None:
                    timer.cancel()
            self._loop = None
        self._group.close()

    def apply_registry(self, enrollments: Iterable[Enrollment]) -> tuple[str, ...]:
        """Watch where new versions of these may appear; return a sentence for each place that can't be watched.

        A folder stays watched when an agent leaves: its events are few, and tell nobody anything.
        """
        problems = []
        for enrollment in enrollments:
            for binary in enrollment.binaries:
                for folder in folders_of(binary):
                    problem = self._watch(folder, 0)
                    if problem:
                        problems.append(f"{folder}: who writes an update of {enrollment.agent} is not seen: {problem}")
        return tuple(problems)

    def who_wrote(self, fd: int) -> Provenance:
        """Return who wrote the file behind a descriptor, as of now."""
        self._drain()
        trace = self.trace_of(fd)
        if trace is None:
            return not_recorded("the monitor saw nobody write it")
        remarks = [trace.broken, "" if trace.born else "its creation was not seen"]
        remark = "; ".join(each for each in remarks if each)
        ordered = sorted(trace.seen.values(), key=lambda seen: seen.time_ns)
        return Provenance(recorded=True, complete=not remark, remark=remark, writers=tuple(ordered))

    def trace_of(self, fd: int) -> Trace | None:
        """Return what is kept of the file behind a descriptor, after the queue was read."""
        self._drain()
        key = file_key(fd)
        return None if key is None else self._traces.get(key)

    def _on_readable(self) -> None:
        """Take one slice, then let everybody else have a turn: who writes here may be an attacker."""
        if self._loop is None or not self._take_slice():
            return
        self._loop.remove_reader(self._group.fd)
        self._pause = self._loop.call_later(_SLICE_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._loop is not None:
            self._loop.add_reader(self._group.fd, self._on_readable)

    def _drain(self) -> None:
        for _ in range(_DRAINED_SLICES):
            if not self._take_slice():
                return
        self._break_all("events came too fast to be read")

    def _take_slice(self) -> bool:
        try:
            changes = self._group.read_changes()
        except (AgentBrokerError, OSError):
            _log.exception("events of new versions could not be read")
            self._break_all("events could not be read")
            return False
        for change in changes:
            try:
                self._take(change)
            finally:
                if change.pidfd >= 0:
                    os.close(change.pidfd)
        if changes:
            self._wait_for_quiet()
        return bool(changes)

    def _take(self, change: Change) -> None:
        if change.mask & fanotify.FAN_Q_OVERFLOW:
            self._break_all("the kernel dropped events")
        elif change.mask & fanotify.FAN_ONDIR:
            self._appeared(change)
        elif change.inode:
            self._note(change)

    def _note(self, change: Change) -> None:
        trace = self._traces.get(change.inode)
        did = {did for bit, did in _DID if change.mask & bit}
        if trace is not None and "created" in did:  # another link to a file that was there
            did = did - {"created"} | {"named"}
        if trace is None:
            trace = Trace(change.inode, "", {}, born=bool(change.mask & fanotify.FAN_CREATE))
            self._traces[change.inode] = trace
        self._traces.move_to_end(change.inode)
        while len(self._traces) > _MAX_FILES:
            self._traces.popitem(last=False)
        trace.name = os.fsdecode(change.name)
        trace.events += 1
        seen = self._seen_by(trace, change)
        if seen is not None:
            seen.did |= did
            seen.time_ns = self._clock.wall_ns()

    def _seen_by(self, trace: Trace, change: Change) -> Seen | None:
        """Return the entry of whoever did it, made if need be; None: there are too many."""
        record, doubt = self._actors.snapshot(change.pidfd), ""
        if record is None:
            record, doubt = self._ended(change.pid), _ENDED
        number = f"pid {change.pid}" if record is None else number_of(record.proc_id, record.exec_id, record.taints)
        seen = trace.seen.get(number)
        if seen is None and len(trace.seen) >= MAX_WRITERS:
            trace.broken = f"more than {MAX_WRITERS} programs wrote it"
        elif seen is None:
            seen = trace.seen[number] = Seen(self._identify(change.pid, record, doubt), set(), 0)
        elif doubt and not seen.writer.problem:
            seen.writer = msgspec.structs.replace(seen.writer, problem=doubt, is_agent=False, package_manager="")
        return seen

    def _identify(self, pid: int, record: TaskRecord | None, doubt: str) -> Writer:
        if record is None:
            return writer_of(Unknown("the writer had ended before it could be named"), pid)
        return writer_of(self._recall(Actor(pid, -1, record)), pid, doubt)

    def _recall(self, actor: Actor) -> Evidence | Unknown:
        verdict = self._actors.recall(actor)
        return Unknown("it was not identified") if isinstance(verdict, Unchanged) else verdict

    def _appeared(self, change: Change) -> None:
        """A folder was made in, or moved into, a watched one: watch it too, and doubt what is in it already."""
        found = self._folders.get(change.directory)
        if found is None or not change.mask & _ENTRIES or found[1] >= _MAX_BELOW:
            return
        self._watch(f"{found[0]}/{os.fsdecode(change.name)}", found[1] + 1)

    def _watch(self, folder: str, depth: int) -> str:
        """Mark one folder; return why it can't be, or nothing."""
        if depth and len(self._folders) >= _MAX_FOLDERS:
            return "too many folders"
        try:
            fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            return str(error.strerror)
        try:
            key = file_key(fd)
            if key is None:
                return "its file system has no file handles"
            self._group.mark(fd, _MASK)
            known = self._folders.get(key)
            self._folders[key] = (folder, depth if known is None else min(depth, known[1]))
        except UnavailableError as error:
            return error.message
        finally:
            os.close(fd)
        return ""

    def _break_all(self, reason: str) -> None:
        for trace in self._traces.values():
            trace.broken = reason

    def _wait_for_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        if self._loop is not None:
            self._quiet = self._loop.call_later(_QUIET_S, self._on_quiet)

    def _on_quiet(self) -> None:
        self._save()
        self.on_quiet()

    def _save(self) -> None:
        try:
            replace_file(self._state_file, msgspec.msgpack.encode(list(self._traces.values())), mode=0o600)
        except UnavailableError as error:
            _log.warning("%s", error.message)


def folders_of(binary: EnrolledBinary) -> Iterator[str]:
    """Yield the folders in which a new version of a program may appear."""
    places = [binary.path, *binary.launchers]
    if binary.script is not None:
        places += [binary.script.path, binary.script.bundle.root]
    found: dict[str, None] = {}
    for place in places:
        for folder in _upwards(PurePosixPath(place)):
            found.setdefault(os.path.realpath(folder))
    yield from found


def _upwards(place: PurePosixPath) -> Iterator[str]:
    """Yield a file's folder; of a package, all folders up to its ``node_modules``."""
    yield str(place.parent)
    if "node_modules" in place.parent.parts:
        for folder in place.parents:
            yield str(folder)
            if folder.name == "node_modules":
                return


def _load(path: Path) -> list[Trace]:
    """Return the last monitor's traces: who wrote then, and that later writers are not known."""
    try:
        with path.open("rb") as file:
            require_private(path, os.fstat(file.fileno()))
            traces = msgspec.msgpack.decode(file.read(), type=list[Trace])
    except FileNotFoundError:
        return []
    except (AgentBrokerError, OSError, msgspec.DecodeError):
        _log.exception("%s can't be read: who wrote files before is not known", path)
        return []
    for trace in traces:
        trace.broken = "the monitor was restarted since, and saw nobody meanwhile"
        trace.seen = {f"before {number}": seen for number, seen in trace.seen.items()}  # numbers begin anew
    return traces
