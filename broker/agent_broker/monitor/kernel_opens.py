"""Marks that the kernel denies by itself (tier enforce), in front of the listener that asks us (monitor.decoys).

The law:

1. A mark with ``deny`` is set with the listener first, and with the kernel then: whoever the kernel lets through, since
   it must be asked about, finds us waiting.
2. Whoever the kernel denies is told by the kernel's own record of it: its numbers, not its pid, say who it was.
3. While we live we answer for programs that must be asked about; when we end, the kernel denies them (bpf/marks.h).
   What it denies it goes on denying: our programs are pinned (kernel.pins).
4. A restarted monitor sets its marks, and only then takes over; what was denied meanwhile becomes incidents.
"""

import os
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.identity.evidence import Unknown, Verdict
from agent_broker.kernel import wire
from agent_broker.kernel.events import Denial
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.marks import FileNumbers, KernelMarks, agent_number
from agent_broker.lineage.text import plain
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.detection import DENIED
from agent_broker.monitor.fingerprint import hold
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.report import Event, Reporter

MAX_LEFT = 4096
_AT_ONCE = 128  # marks for one question to the kernel; each holds a descriptor until then
_OLD_FILES = 16  # of one path that were moved away: they stay denied
_TRIED = {
    wire.OPERATION_RECEIVE: "tried to receive an open descriptor of (it was denied)",
    wire.OPERATION_TRUNCATE: "tried to empty (it was denied)",
    wire.OPERATION_RENAME: "tried to move, or to move another file over (it was denied),",
    wire.OPERATION_UNLINK: "tried to delete (it was denied)",
    wire.OPERATION_LINK: "tried to give another name to (it was denied)",
}


class Listener(Protocol):
    """What holds openers up and asks (monitor.decoys.DecoyListener)."""

    def start(self) -> None:
        """Start answering."""
        ...

    def close(self) -> None:
        """Stop."""
        ...

    def mark(self, mark: Mark, fd: int) -> None:
        """Watch the file behind a descriptor."""
        ...

    def finish(self) -> list[tuple[str, AgentBrokerError]]:
        """Put in force what was marked and is not yet; return the paths since the last call that could not be."""
        ...

    @property
    def in_work(self) -> int:
        """See DecoyListener."""
        ...

    def leave(self, path: str) -> None:
        """Go on watching what was at a path, which leads elsewhere now."""
        ...

    def forget(self, path: str) -> None:
        """Stop watching a path."""
        ...


class KernelOpens:
    """See the module. A listener itself: it stands in front of another one, and belongs to the event loop."""

    def __init__(self, behind: Listener, marks: KernelMarks, actors: Actors, reporter: Reporter) -> None:
        """Deny nothing yet.

        Args:
            behind: who is asked about those that the kernel lets through.
            marks: the kernel side.
            actors: who says who it was.
            reporter: takes what was denied.
        """
        self._behind = behind
        self._marks = marks
        self._actors = actors
        self._reporter = reporter
        self._of_file: dict[FileNumbers, Mark] = {}
        self._files: dict[str, deque[FileNumbers]] = {}
        self._left: deque[FileNumbers] = deque()
        self._pending: list[tuple[Mark, int]] = []
        self._refused: list[tuple[str, AgentBrokerError]] = []
        self._programs: dict[str, FileNumbers] = {}

    def start(self) -> None:
        """Start answering; again is fine."""
        self._behind.start()
        self._marks.answer_for(os.getpid())

    def close(self) -> None:
        """Answer for nobody any more; what is denied stays denied."""
        self._marks.answer_for(0)
        self._behind.close()

    def mark(self, mark: Mark, fd: int) -> None:
        """Watch the file behind a descriptor, and have the kernel deny it if it is to be denied; again is fine.

        The kernel denies it when ``finish`` returned; the descriptor stays the caller's.

        Raises:
            UnavailableError: the file system does not do these events.
        """
        try:
            self._behind.mark(mark, fd)
        finally:  # also where nobody can be held up: then it is denied to all who can't be told apart here
            self._deny(mark, fd)

    def finish(self) -> list[tuple[str, AgentBrokerError]]:
        """Have the kernel deny what was marked since; return what it does not: it has no room, or does not answer."""
        self._deny_pending()
        refused, self._refused = self._refused, []
        return [*self._behind.finish(), *refused]

    @property
    def in_work(self) -> int:
        """See DecoyListener; what the kernel denied is with the reporter as soon as its ring is read."""
        return self._behind.in_work

    def leave(self, path: str) -> None:
        """A file is no longer at this path; where it is now it stays denied (the newest MAX_LEFT of them)."""
        self._left.extend(self._files.pop(path, ()))
        while len(self._left) > MAX_LEFT:
            self._forget_file(self._left.popleft())
        self._behind.leave(path)

    def forget(self, path: str) -> None:
        """Stop watching and denying a path, and every file that it ever led to.

        Raises:
            UnavailableError: the kernel refuses.
        """
        self._release(path)
        self._behind.forget(path)

    def ask_about(self, programs: Iterable[str]) -> tuple[str, ...]:
        """Let these programs' files, and no others beside the agents', be asked about; credential paths need it.

        Args:
            programs: paths of programs that an allowlist names; a missing one is fine.

        Returns:
            A sentence for each that can't be asked about, and so is denied.
        """
        problems, wanted = [], dict.fromkeys(programs)
        for path in self._programs.keys() - wanted.keys():
            self._marks.stop_asking_about(self._programs.pop(path))
        for path in wanted:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                self._programs[path] = self._marks.ask_about(fd)
            except AgentBrokerError as error:
                problems.append(f"{path} is denied credential paths: {error.message}")
            finally:
                os.close(fd)
        return tuple(problems)

    def report(self, event: Denial) -> None:
        """Take a denial of a marked file: it becomes an incident."""
        if not event.proc_id:
            self._tell(event, Actor(event.pid, -1, None), Unknown("nothing is recorded of it", uid=event.uid))
            return
        actor = self._actor(event)
        self._tell(event, actor, self._actors.recall(actor))

    def report_earlier(self, event: Denial) -> None:
        """Take one that nobody read when it happened: its numbers are of another monitor's count."""
        reason = f"the monitor was not running when it happened; it called itself {plain(event.command)}"
        self._tell(event, Actor(event.pid, -1, None), Unknown(reason, uid=event.uid))

    def missed(self, reason: str) -> None:
        """Report that somebody was denied something, and nobody knows who."""
        self._reporter.missed(reason)

    def _deny(self, mark: Mark, fd: int) -> None:
        if not self._denies(mark):
            self._release(mark.path)
            return
        self._pending.append((mark, os.dup(fd)))
        if len(self._pending) >= _AT_ONCE:
            self._deny_pending()

    def _deny_pending(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        try:
            wanted = [(fd, agent_number(mark.agent, mark.owner_uid)) for mark, fd in pending]
            found: Sequence[FileNumbers | UnavailableError] = self._marks.mark_all(wanted)
        except UnavailableError as error:
            found = [error] * len(pending)
        finally:
            for _, fd in pending:
                os.close(fd)
        for (mark, _), file in zip(pending, found, strict=True):
            if isinstance(file, FileNumbers):
                self._remember(mark, file)
            else:
                self._refused.append((mark.path, file))

    def _remember(self, mark: Mark, file: FileNumbers) -> None:
        known = self._files.setdefault(mark.path, deque())
        if file in known:
            known.remove(file)
        known.append(file)
        self._of_file[file] = mark
        while len(known) > _OLD_FILES:
            self._forget_file(known.popleft())

    def _denies(self, mark: Mark) -> bool:
        """A credential is denied by the kernel only once it knows about whom to ask."""
        return mark.deny and (mark.role == "decoy" or (mark.role == "credential" and bool(self._programs)))

    def _release(self, path: str) -> None:
        for file in self._files.pop(path, ()):
            self._forget_file(file)

    def _forget_file(self, file: FileNumbers) -> None:
        self._of_file.pop(file, None)
        self._marks.unmark(file)

    def _tell(self, event: Denial, actor: Actor, verdict: Verdict) -> None:
        mark = self._of_file.get(FileNumbers(event.dev, event.ino))
        if mark is None:  # forgotten meanwhile
            actor.close()
            return
        name = os.fsdecode(event.name)
        other = "" if name == mark.path else name
        change = _TRIED.get(event.operation, "")
        self._reporter.report(Event(mark, actor, verdict, DENIED, other_name=other, change=change))

    def _actor(self, event: Denial) -> Actor:
        """Return who was denied; with descriptors if it still is what it was then."""
        record = TaskRecord(event.proc_id, event.exec_id, 0)
        try:
            actor = Actor(event.pid, os.pidfd_open(event.pid), record, hold(event.pid))
        except OSError:
            return Actor(event.pid, -1, record)
        now = self._actors.snapshot(actor.pidfd)
        if now is None or (now.proc_id, now.exec_id) != (record.proc_id, record.exec_id):
            actor.close()
        return actor
