"""Whoever puts something else in a marked file's place: renames, deletions and new files on the way to it, its content.

A mark follows its inode, so a rename over a decoy takes the path away from the mark. Hence a folder that holds marked
files, or could come to hold some, is marked for changes of its entries, every folder above for its own removal, and a
decoy itself for changes of its content (truncate(2) opens nothing). Each event tells who did it; the path is then
looked at again, so that what is there now is marked.

Between a rename and the new mark lies the time that the event takes to arrive (well below a millisecond when the
machine is idle): an open in it is not seen, the rename itself is.

Only what happens to a decoy is reported: programs write and replace real credentials all day.
"""

import asyncio
import logging
import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Protocol

from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.monitor import fanotify
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.detection import ONLY_SEEN, is_exempt
from agent_broker.monitor.fanotify import Change, FileKey, Group, file_key
from agent_broker.monitor.fingerprint import hold
from agent_broker.monitor.glimpse import glimpse
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import State
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


class Places(Protocol):
    """Who knows what is marked where."""

    def mark_at(self, path: str) -> Mark | None:
        """Return the decoy whose place this path is, or what is marked there; None: neither."""
        ...

    def marks_below(self, path: str) -> Iterable[Mark]:
        """Return the decoys whose place lies below this path."""
        ...

    def look_again(self, path: str) -> None:
        """Take that this path may lead elsewhere than before."""
        ...

    def look_everywhere(self) -> None:
        """Take that any path may."""
        ...


class PathWatcher:
    """The listener of one group of changes; see the module. To be replaced as a whole when patterns leave."""

    def __init__(self, actors: Actors, reporter: Reporter, places: Places) -> None:
        """Make the group.

        Raises:
            UnavailableError: the kernel refuses.
        """
        names = fanotify.FAN_REPORT_FID | fanotify.FAN_REPORT_DIR_FID | fanotify.FAN_REPORT_NAME
        self._group = Group(fanotify.FAN_CLASS_NOTIF | fanotify.FAN_NONBLOCK | fanotify.FAN_REPORT_PIDFD | names)
        self._actors = actors
        self._reporter = reporter
        self._places = places
        self._folders: dict[FileKey, dict[str, State]] = {}
        self._keys: dict[str, FileKey] = {}
        self._files: dict[FileKey, Mark] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def folders(self) -> int:
        """How many paths of folders are watched."""
        return len(self._keys)

    def start(self) -> None:
        """Serve from the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._group.fd, self.take_in)

    def close(self) -> None:
        """Handle what was already queued, then stop."""
        if self._loop is not None:
            self.take_in()
            self._loop.remove_reader(self._group.fd)
            self._loop = None
        self._group.close()

    def watches(self, path: str) -> bool:
        """Whether a folder at this path is, or was, watched."""
        return path in self._keys

    def watch_folder(self, fd: int, path: str, state: State, *, entries: bool) -> None:
        """Watch a folder (O_PATH is enough); again is fine.

        Raises:
            UnavailableError: its file system does not do these events.
        """
        if path == "/" and not entries:
            return  # it is never moved
        self._group.mark(fd, (_SELF | _ENTRIES if entries else _SELF) | fanotify.FAN_ONDIR)
        key = _key(fd)
        if self._keys.get(path, key) != key:
            self._forget(path)
        self._keys[path] = key
        self._folders.setdefault(key, {})[path] = state

    def watch_content(self, fd: int, mark: Mark) -> None:
        """Watch a decoy's content; again is fine.

        Raises:
            UnavailableError: its file system does not do these events.
        """
        self._group.mark(fd, fanotify.FAN_MODIFY)
        self._files[_key(fd)] = mark

    def _forget(self, path: str) -> None:
        """Drop what is kept of a folder's path, and of the folders below it."""
        for each in [each for each in self._keys if each == path or each.startswith(f"{path}/")]:
            states = self._folders.get(key := self._keys.pop(each), {})
            states.pop(each, None)
            if not states:
                self._folders.pop(key, None)

    def take_in(self) -> bool:
        """Handle what waits in the kernel's queue, as far as one read has room; return whether there was any."""
        try:
            changes = self._group.read_changes()
        except (OSError, AgentBrokerError) as error:
            _log.exception("changes around marked files were lost")
            self._overflowed(f"the changes around it could not be read ({error})")
            return True
        for change in changes:
            if change.mask & fanotify.FAN_Q_OVERFLOW:
                self._overflowed("too many changes at once")
            self._serve(change)
        return bool(changes)

    def _overflowed(self, reason: str) -> None:
        """Changes were lost: nobody knows which."""
        self._reporter.missed(reason)
        self._places.look_everywhere()

    def _serve(self, change: Change) -> None:
        """Report what concerns a decoy, look again where something changed, and take over the change's pidfd."""
        told, moved = self._meaning(change)
        if told:
            actor = Actor(change.pid, change.pidfd, self._actors.snapshot(change.pidfd))
            verdict = self._actors.recall(actor)
            for mark, verb in told:
                if verb and not is_exempt(verdict, mark):
                    self._reporter.report(Event(mark, _copy(actor), verdict, ONLY_SEEN, change=verb))
            actor.close()
        elif change.pidfd >= 0:
            os.close(change.pidfd)
        for path in moved:
            self._places.look_again(path)

    def _meaning(self, change: Change) -> tuple[list[tuple[Mark, str]], list[str]]:
        """Return the decoys concerned with what was done to each, and the paths to look at again."""
        written = self._files.get(change.inode)
        if change.mask & fanotify.FAN_MODIFY and written is not None:
            return [(written, "changed the content of")], []
        folders = dict(self._folders.get(change.directory, {}))
        if change.mask & _SELF:
            verb = "moved a folder that holds" if change.mask & fanotify.FAN_MOVE_SELF else ""
            told = [(mark, verb) for path in sorted(folders) for mark in self._places.marks_below(path)]
            for path in folders:
                self._forget(path)
            return told, sorted(folders)
        name = os.fsdecode(change.name)
        paths = [str(PurePosixPath(path, name)) for path, state in sorted(folders.items()) if state.step(name)]
        found = [(self._places.mark_at(path), path) for path in paths]
        verb = " and ".join(verb for bit, verb in _VERBS if change.mask & bit)
        return [(mark, verb) for mark, _ in found if mark is not None and mark.role == "decoy"], paths


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
