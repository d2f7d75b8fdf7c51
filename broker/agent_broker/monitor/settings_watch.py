"""The agents' own settings, watched: whoever else writes them is told, with what changed.

Guaranteed: a file of the registry is watched when ``apply_registry`` returns, or a sentence says why it is not; one
that is missing is watched from the moment it appears. Its content is read then, and again after each write, as the data
of a hostile user: nothing is followed, nothing is waited for, and no more than MAX_FILE_BYTES are read. What is kept of
it is redacted (monitor.settings_diff).

A writer is looked up by its pidfd when the event is read, mostly within a millisecond; of one that has ended by then
the kernel's record of its number is taken, and that is said. Writes are folded: the first of a program is told
SETTLE_S after it, more of the same program every FOLD_S, with what changed meanwhile.

Bounded: so many writers and lines a file, and a pause after each look that is a multiple of what the look cost.
Not seen: a change while no monitor runs, and settings in the folders that agents are started in.
"""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.identity.evidence import Evidence, Unknown
from agent_broker.identity.registry import Enrollment
from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor import fanotify
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.editors import is_editor
from agent_broker.monitor.fanotify import Change, FileKey, Group, file_key
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.mounts import MountWatch
from agent_broker.monitor.pathwalk import Walk
from agent_broker.monitor.programs import PackageOwners
from agent_broker.monitor.settings_diff import MAX_LINES, difference
from agent_broker.monitor.settings_file import WatchedFile, Writer
from agent_broker.monitor.settings_verdict import Seen, Watched, Writing, decide, severity_of

SETTLE_S = 0.05
FOLD_S = 10.0
_MAX_WRITERS = 16
_COSTS = 20
_SLICE_PAUSE_S = 0.02
_LAST_SLICES = 64
_ENTRIES = fanotify.FAN_CREATE | fanotify.FAN_DELETE | fanotify.FAN_MOVED_FROM | fanotify.FAN_MOVED_TO
_SELF = fanotify.FAN_MOVE_SELF | fanotify.FAN_DELETE_SELF
_CONTENT = fanotify.FAN_MODIFY | fanotify.FAN_CLOSE_WRITE
_ENDED = "it had ended when it was looked up: it is named by its number"

_log = logging.getLogger(__name__)

Ended = Callable[[int], TaskRecord | None]
"""pid -> the numbers of the process that ended last under it (lineage.store)."""


class SettingsWatch:
    """See the module. Made and used in the monitor's event loop."""

    def __init__(  # noqa: PLR0913 - the ports of one process, named arguments only
        self,
        *,
        actors: Actors,
        ended: Ended,
        packages: PackageOwners | None,
        publish: Callable[[Incident], None],
        seen: Seen,
        fold_s: float = FOLD_S,
    ) -> None:
        """Make the group; nothing is watched before ``apply_registry``.

        Args:
            actors: says who wrote.
            ended: numbers of processes that have ended.
            packages: knows the user's editors; None: nobody is one.
            publish: takes incidents.
            seen: for the incidents.
            fold_s: between two incidents of one program and one file.

        Raises:
            UnavailableError: the kernel refuses.
        """
        names = fanotify.FAN_REPORT_FID | fanotify.FAN_REPORT_DIR_FID | fanotify.FAN_REPORT_NAME
        self._group = Group(fanotify.FAN_CLASS_NOTIF | fanotify.FAN_NONBLOCK | fanotify.FAN_REPORT_PIDFD | names)
        self._actors = actors
        self._ended = ended
        self._packages = packages
        self._publish = publish
        self._seen = seen
        self._fold_s = fold_s
        self._own_pid = os.getpid()
        self._files: dict[str, WatchedFile] = {}
        self._entries: dict[tuple[FileKey, bytes], set[str]] = {}
        self._folders: dict[FileKey, set[str]] = {}
        self._inodes: dict[FileKey, set[str]] = {}
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._mounts = MountWatch(self._mounted)
        self._loop.add_reader(self._group.fd, self._on_readable)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each file that is not watched now; one that is missing is watched."""
        return tuple(each.problem for each in self._files.values() if each.problem)

    @property
    def in_work(self) -> int:
        """Files with changes that are told as soon as they were looked at; not those of which more is told later."""
        now_s = time.monotonic()
        return sum(each.is_due(now_s - self._fold_s) for each in self._files.values())

    def apply_registry(self, enrollments: Iterable[Enrollment]) -> tuple[str, ...]:
        """Watch exactly the settings of these enrolments; return ``problems``."""
        wanted = {
            file.path: Watched(file, enrollment)
            for enrollment in enrollments
            for file in enrollment.settings
        }  # fmt: skip
        for path in self._files.keys() - wanted.keys():
            self._files.pop(path).drop()
        for path, watched in wanted.items():
            if path in self._files:
                self._files[path].watched = watched
                self._recheck(path)
            else:
                self._files[path] = WatchedFile(watched)
                self._recheck(path)
                self._files[path].before = self._files[path].now = self._files[path].read()
        return self.problems

    async def close(self) -> None:
        """Tell what was seen, then stop."""
        self._mounts.close()
        for _ in range(_LAST_SLICES):
            if not self.take_in():
                break
        self._loop.remove_reader(self._group.fd)
        if self._pause is not None:
            self._pause.cancel()
        for file in self._files.values():
            if file.timer is not None:
                file.timer.cancel()
            if file.task is not None:
                await asyncio.gather(file.task, return_exceptions=True)
            await self._tell(file, all_of_them=True)
            file.drop()
        self._group.close()

    def _recheck_all(self) -> None:
        for path in self._files:
            self._recheck(path)

    def _mounted(self) -> None:
        """What a mount brought, or took away, nobody wrote; what somebody wrote before it may still be queued."""
        for _ in range(_LAST_SLICES):
            if not self.take_in():
                break
        self._recheck_all()
        for file in self._files.values():
            if not file.writers:
                file.before = file.now = file.read()

    def _recheck(self, path: str) -> None:
        """Walk a path again and mark what is there."""
        file = self._files[path]
        with Walk(path) as walk:
            missing = walk.problem.endswith(os.strerror(errno.ENOENT))
            problem = "" if missing else walk.problem
            try:
                self._mark(path, walk)
            except AgentBrokerError as error:
                problem = f"{path}: changes of these settings are not seen: {error.message}"
        file.problem = problem

    def _mark(self, path: str, walk: Walk) -> None:
        _forget(self._entries, path)
        _forget(self._folders, path)
        _forget(self._inodes, path)
        for folder in walk.directories[1:]:
            self._group.mark(folder, _SELF | fanotify.FAN_ONDIR)
            self._folders.setdefault(_key(folder), set()).add(path)
        last = walk.directories[-1]
        self._group.mark(last, _ENTRIES | fanotify.FAN_ONDIR)
        self._entries.setdefault((_key(last), os.fsencode(walk.next_name)), set()).add(path)
        if walk.file is not None:
            self._group.mark(walk.file, _CONTENT)
            self._inodes.setdefault(_key(walk.file), set()).add(path)

    def _on_readable(self) -> None:
        """Take one slice, then let everybody else have a turn: who writes here may be an attacker."""
        if self.take_in():
            self._loop.remove_reader(self._group.fd)
            self._pause = self._loop.call_later(_SLICE_PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._group.fd, self._on_readable)

    def take_in(self) -> bool:
        """Handle changes that wait in the kernel's queue, as far as one read has room; return whether there was any."""
        try:
            changes = self._group.read_changes()
        except (AgentBrokerError, OSError):
            _log.exception("changes of settings could not be read")
            changes = []
            self._overflowed()
        for change in changes:
            try:
                self._take(change)
            finally:
                if change.pidfd >= 0:
                    os.close(change.pidfd)
        return bool(changes)

    def _overflowed(self) -> None:
        """Events were lost: whoever changed something meanwhile can't be named."""
        self._recheck_all()
        for file in self._files.values():
            self._note(file, Change(0, 0, -1, b"", b"", b""))

    def _take(self, change: Change) -> None:
        if change.mask & fanotify.FAN_Q_OVERFLOW:
            self._overflowed()
            return
        if change.pid == self._own_pid:
            return
        if change.mask & _CONTENT and change.inode:
            paths = set(self._inodes.get(change.inode, ()))
        elif change.mask & _SELF:
            paths = set(self._folders.get(change.directory, ()))
        else:
            paths = set(self._entries.get((change.directory, change.name), ()))
        for path in paths & self._files.keys():
            if not change.mask & _CONTENT:
                self._recheck(path)
            self._note(self._files[path], change)

    def _note(self, file: WatchedFile, change: Change) -> None:
        """Remember who did it, and look at the file soon."""
        record, doubt = self._actors.snapshot(change.pidfd), ""
        if record is None and change.pid:
            record, doubt = self._ended(change.pid), _ENDED
        key = (change.pid,) if record is None else (record.proc_id, record.exec_id, record.taints)
        writer = file.writers.get(key)
        if writer is None and len(file.writers) >= _MAX_WRITERS:
            key = (0,)  # too many to be told apart: nobody of them is exempt
            record, doubt = None, f"more than {_MAX_WRITERS} programs wrote it at once"
            writer = file.writers.get(key)
        if writer is None:
            pidfd = os.dup(change.pidfd) if change.pidfd >= 0 and not doubt else -1
            writer = file.writers[key] = Writer(Actor(change.pid, pidfd, record), doubt)
        writer.count += bool(change.mask & (fanotify.FAN_CLOSE_WRITE | _ENTRIES | _SELF)) or not writer.count
        self._look_soon(file, SETTLE_S)

    def _look_soon(self, file: WatchedFile, after_s: float) -> None:
        if file.timer is None and file.task is None:
            file.timer = self._loop.call_later(after_s, self._begin, file)

    def _begin(self, file: WatchedFile) -> None:
        file.timer = None
        file.task = self._loop.create_task(self._look(file))

    async def _look(self, file: WatchedFile) -> None:
        """Tell what is to be told now; come again for what is folded."""
        began = time.monotonic()
        try:
            await self._tell(file)
        except AgentBrokerError:
            _log.exception("a change of %s is not told", file.watched.file.path)
        pause_s = max(SETTLE_S, _COSTS * (time.monotonic() - began))
        await asyncio.sleep(pause_s)
        file.task = None
        if file.writers:
            self._look_soon(file, SETTLE_S)

    async def _tell(self, file: WatchedFile, *, all_of_them: bool = False) -> None:
        if not file.writers:
            return
        file.telling += 1
        try:
            await self._tell_due(file, all_of_them=all_of_them)
        finally:
            file.telling -= 1

    async def _tell_due(self, file: WatchedFile, *, all_of_them: bool) -> None:
        file.now = await asyncio.to_thread(file.read)  # it may be large
        now_s = time.monotonic()
        file.told = {key: at for key, at in file.told.items() if now_s - at < self._fold_s}
        due = {key: writer for key, writer in file.writers.items() if all_of_them or key not in file.told}
        if not due:
            return
        writers, file.writers = due, {key: writer for key, writer in file.writers.items() if key not in due}
        changes, matters = difference(file.before, file.now)
        judged = [(key, *await self._judge(file, writer)) for key, writer in writers.items()]
        if any(severity for _, severity, _ in judged) or not file.writers:
            file.before = file.now  # else the changes of those who wait would be lost with the agent's own
        for key, severity, writing in judged:
            if not severity or (file.watched.file.hot and not matters):
                continue
            file.told[key] = now_s
            self._publish(decide(file.watched, writing, changes[: MAX_LINES + 2], severity, self._seen))

    async def _judge(self, file: WatchedFile, writer: Writer) -> tuple[str, Writing]:
        actor = writer.actor
        try:
            verdict = self._actors.recall(actor)
            if isinstance(verdict, Unknown) and actor.pidfd >= 0:
                verdict = await self._actors.closer(actor, verdict)
        finally:
            actor.close()
        severity = severity_of(file.watched, verdict)
        if severity and isinstance(verdict, Evidence) and await self._is_editor(verdict):
            severity = ""
        return severity, Writing(verdict, actor.pid, max(1, writer.count), writer.doubt)

    async def _is_editor(self, verdict: Evidence) -> bool:
        packages = self._packages
        return packages is not None and await asyncio.to_thread(is_editor, verdict, packages)


_Place = TypeVar("_Place")


def _forget(known: dict[_Place, set[str]], path: str) -> None:
    """Folders that an attacker makes and removes by turns must not pile up."""
    for place in [place for place, paths in known.items() if path in paths]:
        known[place].discard(path)
        if not known[place]:
            del known[place]


def _key(fd: int) -> FileKey:
    key = file_key(fd)
    if key is None:
        raise UnavailableError("its file system has no file handles")
    return key
