"""Whoever puts something else in a decoy's place: renames, deletions and new files on the way to it, and its content.

A mark follows its inode, so a rename over a decoy takes the path away from the mark. Hence the directory that holds
it is marked for changes of its entries, every directory above for its own removal, and the file itself for changes
of its content (truncate(2) opens nothing). Each event tells who did it; the path is then walked again, so that what
is there now is marked.

Between a rename and the new mark lies the time that the event takes to arrive (well below a millisecond when the
machine is idle): an open in it is not seen, the rename itself is.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import PurePosixPath

from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.monitor import fanotify
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.detection import ONLY_SEEN, is_exempt
from agent_broker.monitor.fanotify import Change, FileKey, Group, file_key
from agent_broker.monitor.fingerprint import hold
from agent_broker.monitor.glimpse import glimpse
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pathwalk import Walk
from agent_broker.monitor.report import Event, Reporter

_ENTRIES = fanotify.FAN_CREATE | fanotify.FAN_DELETE | fanotify.FAN_MOVED_FROM | fanotify.FAN_MOVED_TO
_SELF = fanotify.FAN_MOVE_SELF | fanotify.FAN_DELETE_SELF

_VERBS = (
    (fanotify.FAN_MOVED_FROM, "moved away"),
    (fanotify.FAN_DELETE, "deleted"),
    (fanotify.FAN_CREATE, "created another file in the place of"),
    (fanotify.FAN_MOVED_TO, "moved another file to the place of"),
)

_log = logging.getLogger(__name__)


class PathWatcher:
    """The listener of one group of changes; see the module. To be replaced as a whole when decoys leave."""

    def __init__(self, actors: Actors, reporter: Reporter, recheck: Callable[[str], None]) -> None:
        """Make the group.

        Args:
            actors: says who did it.
            reporter: gets the events.
            recheck: called with a decoy's path whenever the path may lead elsewhere than before.

        Raises:
            UnavailableError: the kernel refuses.
        """
        names = fanotify.FAN_REPORT_FID | fanotify.FAN_REPORT_DIR_FID | fanotify.FAN_REPORT_NAME
        self._group = Group(fanotify.FAN_CLASS_NOTIF | fanotify.FAN_NONBLOCK | fanotify.FAN_REPORT_PIDFD | names)
        self._actors = actors
        self._reporter = reporter
        self._recheck = recheck
        self._decoys: dict[str, Mark] = {}
        self._entries: dict[tuple[FileKey, bytes], set[str]] = {}
        self._folders: dict[FileKey, set[str]] = {}
        self._files: dict[FileKey, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Serve from the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._group.fd, self._on_readable)

    def close(self) -> None:
        """Handle what was already queued, then stop."""
        if self._loop is not None:
            self._on_readable()
            self._loop.remove_reader(self._group.fd)
            self._loop = None
        self._group.close()

    def watch(self, decoy: Mark, walk: Walk) -> None:
        """Watch the way to a decoy, as far as a walk got; again is fine.

        Raises:
            UnavailableError: a file system on the way does not do these events.
        """
        self._decoys[decoy.path] = decoy
        last = walk.directories[-1]
        for folder in walk.directories[1:]:
            self._group.mark(folder, _SELF | fanotify.FAN_ONDIR)
            self._folders.setdefault(_key(folder), set()).add(decoy.path)
        self._group.mark(last, _ENTRIES | fanotify.FAN_ONDIR)
        self._entries.setdefault((_key(last), os.fsencode(walk.next_name)), set()).add(decoy.path)
        if walk.file is not None:
            self._group.mark(walk.file, fanotify.FAN_MODIFY)
            self._files[_key(walk.file)] = decoy.path

    def _on_readable(self) -> None:
        try:
            changes = self._group.read_changes()
        except (OSError, AgentBrokerError) as error:
            _log.exception("changes around decoys were lost")
            self._overflowed(f"the changes around it could not be read ({error})")
            return
        for change in changes:
            if change.mask & fanotify.FAN_Q_OVERFLOW:
                self._overflowed("too many changes at once")
            self._serve(change)

    def _overflowed(self, reason: str) -> None:
        """Changes were lost: nobody knows which, so every path is walked again."""
        self._reporter.missed(reason)
        for path in self._decoys:
            self._recheck(path)

    def _serve(self, change: Change) -> None:
        """Report what concerns a decoy, and take over the change's pidfd."""
        found = self._meaning(change)
        if not found:
            _close(change.pidfd)
            return
        actor = Actor(change.pid, change.pidfd, self._actors.snapshot(change.pidfd))
        verdict = self._actors.recall(actor)
        for path, verb in found:
            decoy = self._decoys[path]
            if verb and not is_exempt(verdict, decoy):
                self._reporter.report(Event(decoy, _copy(actor), verdict, ONLY_SEEN, change=verb))
            if verb != _WROTE:
                self._recheck(path)
        actor.close()

    def _meaning(self, change: Change) -> list[tuple[str, str]]:
        """Return (path of a decoy, what was done to it) for each decoy concerned; nothing done: only look again."""
        written = self._files.get(change.inode)
        if change.mask & fanotify.FAN_MODIFY and written is not None:
            return [(written, _WROTE)]
        if change.mask & _SELF:
            verb = "moved a folder that holds" if change.mask & fanotify.FAN_MOVE_SELF else ""
            return [(path, verb) for path in sorted(self._folders.get(change.directory, ()))]
        paths = sorted(self._entries.get((change.directory, change.name), ()))
        return [(path, _verb(change, path)) for path in paths]


_WROTE = "changed the content of"


def _verb(change: Change, path: str) -> str:
    """Say what happened to the entry of this name; nothing if it is a folder on the way to the decoy."""
    if change.name != os.fsencode(PurePosixPath(path).name):
        return ""
    return " and ".join(verb for bit, verb in _VERBS if change.mask & bit)


def _copy(actor: Actor) -> Actor:
    """Return an actor with descriptors of its own, its executable among them."""
    pidfd = os.dup(actor.pidfd) if actor.pidfd >= 0 else actor.pidfd
    if pidfd < 0:
        return Actor(actor.pid, pidfd, actor.record)
    return Actor(actor.pid, pidfd, actor.record, hold(actor.pid), glimpse(actor.pid, pidfd))


def _key(fd: int) -> FileKey:
    key = file_key(fd)
    if key is None:
        raise UnavailableError("its file system has no file handles, so renames are not seen")
    return key


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
