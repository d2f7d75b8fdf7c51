"""Whoever opens a marked file waits here until it can't get lost, is answered, and is reported after the answer.

The law, for each permission event, in this order:
1. Our own process is answered at once.
2. While the opener waits, so that it can't end, exec or be replaced: its kernel numbers are looked up by its pidfd,
   and its executable is held by an O_PATH descriptor. One who does again what it did a moment ago (monitor.intake)
   is counted and answered, before others that were read with it.
3. It is answered. A file that is served needs nothing more for that. For one that is denied, the event loop is
   asked who it is by the recorded lineage: a decoy's agent, and a credential's programs (monitor.credentials), are
   allowed; everybody else, whoever can't be identified, and everybody while the loop does not answer within
   DECISION_S, gets EPERM. A program that takes longer to verify is refused until that is done.
4. Only then, in the event loop: who it was, whether it is exempt, what hash, which incident (monitor.report).

Answers come from a thread of their own, which waits for nothing but the kernel (and, for denied decoys, DECISION_S
for the loop). So no opener hangs while the loop is held up by a disk, and an open of a decoy by our own process,
which an attacker can arrange with hard links, can't wait for itself.

When the listener is closed, or its process is killed, the kernel lets all waiting openers go on, *allowed*: nobody
hangs, and a decoy that was to be denied is served. Where the kernel refuses permission events, the same events come
without the wait: nobody can be denied then, and an opener may be gone before it is looked up.
"""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.evidence import Verdict
from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor import fanotify
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.credentials import Credentials, Opener
from agent_broker.monitor.detection import DENIED, ONLY_SEEN, SERVED, is_exempt
from agent_broker.monitor.fanotify import FAN_ALLOW, FAN_DENY, Group, OpenEvent
from agent_broker.monitor.fingerprint import hold, is_alive
from agent_broker.monitor.giving_way import GivingWay
from agent_broker.monitor.glimpse import Glimpse, glimpse
from agent_broker.monitor.intake import Intake, Opened
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pathwalk import Walk
from agent_broker.monitor.report import Event, Reporter

DECISION_S = 0.25  # how long an opener of a denied file waits for the event loop at most
_OLD_INODES = 16  # of one decoy that was moved away: its marks stay until its file is deleted
_LEFT_INODES = 4096  # of other files that were moved away, in all

Inode = tuple[int, int]
"""st_dev and st_ino: ours and the event's descriptor are asked by the same stat, so they agree on every file system."""

_Found = tuple[OpenEvent, Mark | None, TaskRecord | None]
"""An event, what was opened (None: nothing that is reported), and the opener's numbers."""

_RING_TRIES = 200
_RING_PAUSE_S = 0.01  # without an answer to wait for, an event comes when the listener is scheduled
_PAUSE_S = 0.1  # after an error, so that a lasting one does not spin

_log = logging.getLogger(__name__)


def open_group(*, permission: bool) -> Group:
    """Return a group for open events: the opener waits for an answer, or is only reported.

    Raises:
        UnavailableError: the kernel refuses.
    """
    # Unlimited: it holds no more events than there are processes that wait.
    waiting = fanotify.FAN_CLASS_CONTENT | fanotify.FAN_UNLIMITED_QUEUE
    return Group((waiting if permission else fanotify.FAN_CLASS_NOTIF) | fanotify.FAN_REPORT_PIDFD)


class DecoyListener:
    """The listener of one group of open events; see the module. Its methods belong to the event loop's thread."""

    def __init__(self, actors: Actors, reporter: Reporter, credentials: Credentials, *, permission: bool) -> None:
        """Make the group; nothing is answered before ``start``.

        Raises:
            UnavailableError: the kernel refuses.
        """
        self._permission = permission
        self._mask = fanotify.FAN_OPEN_PERM if permission else fanotify.FAN_OPEN
        self._group = open_group(permission=permission)
        self._actors = actors
        self._reporter = reporter
        self._credentials = credentials
        self._own_pid = os.getpid()
        self._marks: dict[Inode, Mark] = {}
        self._inodes: dict[str, deque[Inode]] = {}
        self._left: deque[Inode] = deque()
        self._denied = 0
        self._loop = asyncio.get_running_loop()
        self._intake = Intake(self._loop, self._settle, self._repeat, reporter.missed)
        self._thread = threading.Thread(target=self._listen, name="decoy-listener", daemon=True)
        self._stopping = False
        self._serving = False
        self._bell = os.memfd_create("agent-broker-bell", os.MFD_CLOEXEC)
        self._heard = 0
        self.mark_bell()

    def start(self) -> None:
        """Start answering; again is fine."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Stop; the kernel allows whoever still waits. Reports of what was answered follow in the loop's next round."""
        self._stopping = True
        if self._thread.is_alive():  # it waits in read(2): an open of a file of our own ends that
            os.close(os.open(f"/proc/self/fd/{self._bell}", os.O_RDONLY | os.O_CLOEXEC))
            self._thread.join()
        self._intake.close()
        self._group.close()
        os.close(self._bell)

    def mark_bell(self) -> None:
        """Mark the file whose opens prove that marks are there, and are listened to.

        Raises:
            UnavailableError: the kernel refuses.
        """
        self._group.mark(self._bell, self._mask)

    def ring(self) -> bool:
        """Open the bell; return whether that was heard. In a thread of its own: it waits for the listener."""
        heard = self._heard
        os.close(os.open(f"/proc/self/fd/{self._bell}", os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(_RING_TRIES):
            if self._heard != heard:  # before the open came back, if it had to wait for an answer
                return True
            time.sleep(_RING_PAUSE_S)
        return False

    def mark(self, mark: Mark, fd: int) -> None:
        """Watch the file behind a descriptor (O_PATH is enough); again is fine, and heals a lost mark.

        Raises:
            UnavailableError: the file system does not do these events.
        """
        inode = _inode_of(fd)
        is_new = inode not in self._marks
        self._set(inode, mark)  # first: whoever opens it once it is marked is looked up there, in the other thread
        try:
            self._group.mark(fd, self._mask)
        except AgentBrokerError:
            if is_new:
                self._drop(inode)
            raise
        known = self._inodes.setdefault(mark.path, deque())
        if inode in known:
            known.remove(inode)
        known.append(inode)
        while len(known) > _OLD_INODES:
            self._drop(known.popleft())

    def finish(self) -> list[tuple[str, AgentBrokerError]]:
        """Return nothing: what was marked is in force at once."""
        return []

    def leave(self, path: str) -> None:
        """Take that a file is no longer at this path; while it exists elsewhere its opens go on being reported."""
        self._left.extend(self._inodes.pop(path, ()))
        while len(self._left) > _LEFT_INODES:
            self._drop(self._left.popleft())

    def forget(self, path: str) -> None:
        """Stop watching a file; one that was moved away keeps its mark, and its opens are allowed.

        Raises:
            UnavailableError: the kernel refuses.
        """
        for inode in self._inodes.pop(path, ()):
            self._drop(inode)
        with Walk(path) as walk:
            if walk.file is not None:
                self._group.unmark(walk.file, self._mask)

    @property
    def in_work(self) -> int:
        """Opens that were answered and not reported yet; where openers wait, they are counted before they go on."""
        serving = self._serving  # first: what it serves is handed over before it is done
        return serving + self._intake.in_work

    @property
    def _denying(self) -> bool:
        return self._denied > 0

    def _set(self, inode: Inode, mark: Mark) -> None:
        old = self._marks.get(inode)
        self._marks[inode] = mark
        self._denied += mark.deny - (old is not None and old.deny)

    def _drop(self, inode: Inode) -> None:
        mark = self._marks.pop(inode, None)
        self._denied -= mark is not None and mark.deny

    def _listen(self) -> None:
        """Serve events until the bell rings, in the listener's thread.

        The bell's own event is what ends it, not the flag: whoever rings waits for the answer.
        """
        rung, way = False, GivingWay()
        while not rung:
            events = self._read()
            rung = self._stopping and any(self._is_bell(event_fd) for _, event_fd, _, _ in events)
            others = self._answer_repeats(events)
            for found in others:
                self._serve(*found)
            way.answered(len(events) - len(others))

    def _answer_repeats(self, events: list[OpenEvent]) -> list[_Found]:
        """Count and answer whoever does what it did a moment ago; return the others."""
        repeats: list[OpenEvent] = []
        others: list[_Found] = []
        for event in events:
            try:
                mark, record = self._look_up(event)
            except Exception as error:  # noqa: BLE001 - whatever went wrong, others wait for this thread
                self._failed(event, error)
                continue
            if mark is not None and not mark.deny and self._intake.join(mark, record):
                repeats.append(event)
            else:
                others.append((event, mark, record))
        try:
            if self._permission:
                self._group.allow_all([event_fd for _, event_fd, _, _ in repeats])
        except OSError as error:
            for event in repeats:
                self._failed(event, error)
        _close_all([fd for _, event_fd, _, pidfd in repeats for fd in (event_fd, pidfd) if fd >= 0])
        return others

    def _serve(self, event: OpenEvent, mark: Mark | None, record: TaskRecord | None) -> None:
        self._serving = True  # before the answer: see in_work
        try:
            self._serve_first(event, mark, record)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(event, error)
        finally:
            self._serving = False

    def _failed(self, event: OpenEvent, error: Exception) -> None:
        """Answer whoever could not be served, and say so."""
        _log.exception("an opener of a decoy was answered, and not looked at")
        self._answer(event[1], FAN_DENY if self._denying else FAN_ALLOW)
        self._in_loop(self._reporter.missed, f"the opener could not be looked at ({error})")

    def _read(self) -> list[OpenEvent]:
        try:
            return self._group.read_opens()
        except (OSError, AgentBrokerError) as error:  # EMFILE: the kernel answered in our place, with EPERM
            _log.exception("an open of a decoy was lost")
            self._in_loop(self._reporter.missed, f"its event could not be read ({error})")
            time.sleep(_PAUSE_S)
            return []

    def _look_up(self, event: OpenEvent) -> tuple[Mark | None, TaskRecord | None]:
        """Return what was opened (None: forgotten, or moved away too long ago), and the opener's numbers."""
        _, event_fd, pid, pidfd = event
        if event_fd < 0 or pid == self._own_pid:
            return None, None
        return self._marks.get(_inode_of(event_fd)), self._actors.snapshot(pidfd)

    def _serve_first(self, event: OpenEvent, mark: Mark | None, record: TaskRecord | None) -> None:
        """Do what must be done while the opener waits; leave the rest to the loop."""
        _, event_fd, pid, pidfd = event
        if event_fd < 0:
            self._in_loop(self._reporter.missed, "too many events at once")
            return
        if pid == self._own_pid:
            self._heard += os.path.sameopenfile(event_fd, self._bell)
            self._answer(event_fd, FAN_ALLOW)
            _close_all([event_fd, pidfd])
            return
        actor = Actor(pid, pidfd, record, hold(pid))
        if record is None and actor.exe_fd is not None and not is_alive(pidfd):
            os.close(actor.exe_fd)  # it was killed while it waited: nothing says whose executable this is
            actor.exe_fd = None
        self._answer(event_fd, self._strict_response(mark, actor) if mark is not None and mark.deny else FAN_ALLOW)
        if mark is None or mark.role == "config":
            os.close(event_fd)
            actor.close()
            return
        actor.glimpse = self._glimpse(actor)
        self._intake.put(mark, _path_of(event_fd), actor)
        os.close(event_fd)

    def _glimpse(self, actor: Actor) -> Glimpse | None:
        """Look at a process that need not wait for that; nothing if it has become another image meanwhile."""
        seen = glimpse(actor.pid, actor.pidfd)
        return seen if seen is not None and self._actors.snapshot(actor.pidfd) == actor.record else None

    def _strict_response(self, mark: Mark, actor: Actor) -> int:
        """Decide between allow and deny."""
        exempt: Future[bool] = Future()
        self._in_loop(self._decide, mark, actor, exempt)
        try:
            return FAN_ALLOW if not self._stopping and exempt.result(DECISION_S) else FAN_DENY
        except TimeoutError:
            return FAN_DENY

    def _decide(self, mark: Mark, actor: Actor, exempt: "Future[bool]") -> None:
        verdict = self._actors.recall(actor)
        if is_exempt(verdict, mark) or not self._credentials.concerns(mark):
            exempt.set_result(is_exempt(verdict, mark))
        else:
            then = lambda opener: exempt.set_result(opener.is_allowed)  # noqa: E731 - one expression
            self._credentials.decide(mark, verdict, actor, then, waited=True)

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Have the loop call this soon; a loop that is closed already reports nothing any more."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            _log.warning("the event loop ended before the decoy listener: an open was answered and is not reported")

    def _is_bell(self, event_fd: int) -> bool:
        return self._stopping and event_fd >= 0 and os.path.sameopenfile(event_fd, self._bell)

    def _answer(self, event_fd: int, response: int) -> None:
        if self._permission:
            self._group.answer(event_fd, response)

    def _settle(self, opened: Opened) -> None:
        """Find out who it was, and report it unless it is exempt; takes over the actor."""
        verdict = self._actors.recall(opened.actor)
        if is_exempt(verdict, opened.mark):
            opened.is_told = False
            opened.actor.close()
        elif self._credentials.concerns(opened.mark):
            settled = partial(self._settled, opened, verdict)
            self._credentials.decide(opened.mark, verdict, opened.actor, settled, waited=self._permission)
        else:
            self._report(opened, opened.actor, verdict)

    def _settled(self, opened: Opened, verdict: Verdict, opener: Opener) -> None:
        """Report who opened a file, unless it may, or is being learnt."""
        if opener.is_allowed or self._credentials.learns(opened.mark, verdict, opener):
            opened.is_told = False
            opened.actor.close()
        else:
            self._report(opened, opened.actor, verdict)

    def _repeat(self, opened: Opened) -> None:
        """Report that the same was done again: by the same program image, so it is as little exempt."""
        first = opened.actor
        actor = Actor(first.pid, -1, first.record, glimpse=first.glimpse)
        self._report(opened, actor, self._actors.recall(actor))

    def _report(self, opened: Opened, actor: Actor, verdict: Verdict) -> None:
        opened.is_told = True
        mark, times = opened.mark, self._intake.take(opened)
        other = opened.opened_as if opened.opened_as != mark.path else ""
        action = ONLY_SEEN
        if self._permission and (mark.deny or mark.role == "decoy"):
            action = DENIED if mark.deny else SERVED
        self._reporter.report(Event(mark, actor, verdict, action, other_name=other, times=times))


def _inode_of(fd: int) -> Inode:
    facts = os.fstat(fd)
    return facts.st_dev, facts.st_ino


def _path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - a Path costs more than the call


def _close_all(fds: list[int]) -> None:
    """Close descriptors, in one call if they are all that lie between the lowest and the highest, as after one read."""
    if fds and max(fds) - min(fds) + 1 == len(fds):
        os.closerange(min(fds), max(fds) + 1)
        return
    for fd in fds:
        if fd >= 0:
            os.close(fd)
