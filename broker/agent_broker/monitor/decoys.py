"""Whoever opens a decoy waits here until it can't get lost, is answered, and is reported after the answer.

The law, for each permission event, in this order:
1. Our own process is answered at once.
2. While the opener waits, so that it can't end, exec or be replaced: its kernel numbers are looked up by its pidfd,
   and its executable is held by an O_PATH descriptor.
3. It is answered. A decoy that is served needs nothing more for that. For one that is denied, the event loop is
   asked who it is by the recorded lineage: the decoy's agent is allowed; everybody else, whoever can't be identified,
   and everybody while the loop does not answer within DECISION_S, gets EPERM.
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
from pathlib import Path

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.evidence import Verdict
from agent_broker.monitor import fanotify
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.detection import DENIED, ONLY_SEEN, SERVED, is_exempt
from agent_broker.monitor.fanotify import FAN_ALLOW, FAN_DENY, Group, OpenEvent
from agent_broker.monitor.fingerprint import hold
from agent_broker.monitor.glimpse import glimpse
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pathwalk import Walk
from agent_broker.monitor.report import Event, Reporter

DECISION_S = 0.25  # how long an opener of a denied decoy waits for the event loop at most
_OLD_INODES = 16  # of one decoy that was moved away: its marks stay until its file is deleted

Inode = tuple[int, int]
"""st_dev and st_ino: ours and the event's descriptor are asked by the same stat, so they agree on every file system."""

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

    def __init__(self, actors: Actors, reporter: Reporter, *, permission: bool) -> None:
        """Make the group; nothing is answered before ``start``.

        Raises:
            UnavailableError: the kernel refuses.
        """
        self._permission = permission
        self._mask = fanotify.FAN_OPEN_PERM if permission else fanotify.FAN_OPEN
        self._group = open_group(permission=permission)
        self._actors = actors
        self._reporter = reporter
        self._own_pid = os.getpid()
        self._decoys: dict[Inode, Mark] = {}
        self._inodes: dict[str, deque[Inode]] = {}
        self._denying = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._listen, name="decoy-listener", daemon=True)
        self._stopping = False
        self._bell = os.memfd_create("agent-broker-bell", os.MFD_CLOEXEC)
        self._group.mark(self._bell, self._mask)

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
        self._group.close()
        os.close(self._bell)

    def mark(self, decoy: Mark, walk: Walk) -> None:
        """Watch the file that a walk found, as this decoy; again is fine, and heals a lost mark.

        Raises:
            UnavailableError: the file system does not do these events.
            ValueError: the walk found no file.
        """
        inode = walk.identity()
        if walk.file is not None:
            self._group.mark(walk.file, self._mask)
        known = self._inodes.setdefault(decoy.path, deque())
        if inode in known:
            known.remove(inode)
        known.append(inode)
        self._decoys[inode] = decoy
        while len(known) > _OLD_INODES:
            self._decoys.pop(known.popleft(), None)
        self._denying = any(each.deny for each in self._decoys.values())

    def forget(self, path: str) -> None:
        """Stop watching a decoy; a file of it that was moved away keeps its mark, and its opens are allowed.

        Raises:
            UnavailableError: the kernel refuses.
        """
        for inode in self._inodes.pop(path, ()):
            self._decoys.pop(inode, None)
        with Walk(path) as walk:
            if walk.file is not None:
                self._group.unmark(walk.file, self._mask)

    def _listen(self) -> None:
        """Serve events until the bell rings, in the listener's thread.

        The bell's own event is what ends it, not the flag: whoever rings waits for the answer.
        """
        rung = False
        while not rung:
            for event in self._read():
                rung |= self._is_bell(event[1])
                try:
                    self._serve(event)
                except Exception as error:  # noqa: BLE001 - whatever went wrong, others wait for this thread
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

    def _serve(self, event: OpenEvent) -> None:
        """Do what must be done while the opener waits; leave the rest to the loop."""
        _, event_fd, pid, pidfd = event
        if event_fd < 0:
            self._in_loop(self._reporter.missed, "too many events at once")
        elif pid == self._own_pid:
            self._answer(event_fd, FAN_ALLOW)
            os.close(event_fd)
            os.close(pidfd)
        else:
            actor = Actor(pid, pidfd, self._actors.snapshot(pidfd), hold(pid), glimpse(pid, pidfd))
            self._answer(event_fd, self._strict_response(event_fd, actor) if self._denying else FAN_ALLOW)
            self._in_loop(self._settle, event_fd, actor)

    def _strict_response(self, event_fd: int, actor: Actor) -> int:
        """Decide between allow and deny."""
        decoy = self._decoy_of(event_fd)
        if decoy is None or not decoy.deny:
            return FAN_ALLOW
        exempt: Future[bool] = Future()
        self._in_loop(lambda: exempt.set_result(is_exempt(self._actors.recall(actor), decoy)))
        try:
            return FAN_ALLOW if not self._stopping and exempt.result(DECISION_S) else FAN_DENY
        except TimeoutError:
            return FAN_DENY

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Have the loop call this soon; a loop that is closed already reports nothing any more."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            _log.warning("the event loop ended before the decoy listener: an open was answered and is not reported")

    def _decoy_of(self, event_fd: int) -> Mark | None:
        """Return the decoy that was opened; None: forgotten meanwhile, or moved away more than 16 decoys ago."""
        facts = os.fstat(event_fd)
        return self._decoys.get((facts.st_dev, facts.st_ino))

    def _is_bell(self, event_fd: int) -> bool:
        return self._stopping and event_fd >= 0 and os.path.sameopenfile(event_fd, self._bell)

    def _answer(self, event_fd: int, response: int) -> None:
        if self._permission:
            self._group.answer(event_fd, response)

    def _settle(self, event_fd: int, actor: Actor) -> None:
        """Find out who it was, and report it unless it is exempt; takes over all descriptors."""
        decoy = self._decoy_of(event_fd)
        if decoy is not None:
            verdict = self._actors.recall(actor)
            if not is_exempt(verdict, decoy):
                self._report(decoy, event_fd, actor, verdict)
                return
        os.close(event_fd)
        actor.close()

    def _report(self, decoy: Mark, event_fd: int, actor: Actor, verdict: Verdict) -> None:
        opened_as = str(Path(f"/proc/self/fd/{event_fd}").readlink())
        os.close(event_fd)
        other = opened_as if opened_as != decoy.path else ""
        action = (DENIED if decoy.deny else SERVED) if self._permission else ONLY_SEEN
        self._reporter.report(Event(decoy, actor, verdict, action, other_name=other))
