"""Everything that is marked: decoys and credential paths, where the files are, and again wherever they reappear.

What is guaranteed: when ``apply_registry`` returns, every decoy that it did not name as a problem, and every file that
matches a credential path, is marked; those that stay keep their marks throughout. A decoy that is missing, replaced
by something that is not a regular file, or on a file system that is not mounted yet, is a problem, and is marked as
soon as its path leads to a file again. A credential path need not be there: it is marked when it appears. No
descriptor of a user's file or folder is kept open, so homes can be unmounted.

Bounds: MAX_FOUND files that match ``*``, MAX_FOLDERS folders; what is over them is a problem. Paths without ``*`` are
always watched.
"""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from agent_broker.clock import Clock
from agent_broker.errors import AgentBrokerError
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.identity.registry import Enrollment
from agent_broker.identity.resolution import mounted_by_users
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.marks import KernelMarks
from agent_broker.monitor.actor import Actors, AttestorPort
from agent_broker.monitor.credentials import Credentials
from agent_broker.monitor.decoys import DecoyListener
from agent_broker.monitor.directories import PathWatcher
from agent_broker.monitor.fingerprint import Fingerprints, HashStore
from agent_broker.monitor.kernel_opens import KernelOpens
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.mounts import MountWatch
from agent_broker.monitor.pattern import State, Wanted, is_glob, tree_of
from agent_broker.monitor.report import Publish, Reporter, Watcher
from agent_broker.monitor.survey import lies_on_way_to, survey

MAX_FOUND = 50_000
MAX_FOLDERS = 20_000
_REST_S = 0.1  # between two looks at everything, and ten times what the last one took
_REST_TIMES = 10

_log = logging.getLogger(__name__)


class DecoyWatch:
    """See the module. Made and used in the monitor's event loop."""

    def __init__(  # noqa: PLR0913 - the ports of one process, named arguments only
        self,
        *,
        attestor: AttestorPort,
        hashes: HashStore,
        facts_of: Callable[[int], FileFacts],
        publish: Publish,
        clock: Clock,
        watcher: Watcher,
        permission: bool,
        credentials: Credentials | None = None,
        marks: KernelMarks | None = None,
    ) -> None:
        """Make the groups; nothing is watched before ``apply_registry``, and no thread runs that keeps privileges.

        Args:
            attestor: identifies openers.
            hashes: the cache that is shared with the attestor.
            facts_of: the kernel's numbers of a descriptor of ours, or fingerprint.facts_by_stat.
            publish: takes incidents; must be durable when it returns.
            clock: for the incidents' times.
            watcher: this monitor's epoch and tier.
            permission: whether the kernel lets openers wait for us (tiers.Tier).
            credentials: which credential paths there are, and who may open them; None: none are watched.
            marks: what the kernel denies by itself; None: nothing.

        Raises:
            UnavailableError: the kernel refuses fanotify.
        """
        self._actors = Actors(attestor)
        prints = Fingerprints(hashes, facts_of)
        self._reporter = Reporter(
            actors=self._actors, fingerprints=prints, publish=publish, clock=clock, watcher=watcher
        )
        self._credentials = Credentials.none(facts_of) if credentials is None else credentials
        self._credentials.look_again = self._actors.closer
        self._decoys: dict[str, Mark] = {}
        self._root = State()
        self._patterns: set[str] = set()
        self._marked: dict[str, Mark] = {}
        self._seen: set[str] = set()
        self._foreign: frozenset[bytes] = frozenset()
        self._above: Counter[str] = Counter()
        self._problems: dict[str, str] = {}
        self._bell = DecoyListener(self._actors, self._reporter, self._credentials, permission=permission)
        self._listener = _in_front_of(self._bell, marks, self._actors, self._reporter)
        self._paths = self._new_paths()
        self._mounts = MountWatch(self.look_everywhere)
        self._rest = _Rest()

    @property
    def bell(self) -> DecoyListener:
        """What proves that the marks are there (monitor.bell)."""
        return self._bell

    @property
    def decoys_watched(self) -> int:
        """Decoys that are marked now."""
        return sum(1 for path in self._decoys if path not in self._problems)

    @property
    def credentials_watched(self) -> int:
        """Files at credential paths that are marked now."""
        return sum(1 for mark in self._marked.values() if mark.role == "credential")

    @property
    def marked(self) -> tuple[Mark, ...]:
        """Every file that is marked now."""
        return tuple(self._marked.values())

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each path that is not, or not wholly, watched now."""
        return tuple(self._problems.values())

    def apply_registry(
        self, enrollments: Iterable[Enrollment], planted: Iterable[PlantedDecoy] = ()
    ) -> tuple[str, ...]:
        """Watch exactly these decoys, and the credential paths of their owners.

        Returns:
            ``problems``, and each path that is enrolled twice.
        """
        self._listener.start()
        enrollments, planted = tuple(enrollments), tuple(planted)
        self._decoys, doubles = _decoys_of(enrollments, planted)
        owners = {each.owner_uid for each in enrollments} | {each.owner_uid for each in planted}
        wanted = [Wanted(path, mark, required=True) for path, mark in self._decoys.items()]
        wanted += self._credentials.wanted(owners)
        left = self._patterns - {each.pattern for each in wanted}
        self._patterns = {each.pattern for each in wanted}
        self._root = tree_of(wanted)
        unasked = () if self.kernel_opens is None else self.kernel_opens.ask_about(self._credentials.programs)
        old = self._paths
        if left:  # the new folders' marks are set before the old ones go
            self._paths = self._new_paths()
        for path in self._look("/"):
            if path in self._decoys:
                self._listener.leave(path)
            else:
                self._forget(path)
        if left:
            old.close()
        return (*self.problems, *doubles, *unasked)

    @property
    def kernel_opens(self) -> KernelOpens | None:
        """Takes what the kernel denied by itself; None: it denies nothing."""
        return self._listener if isinstance(self._listener, KernelOpens) else None

    def take_in(self) -> bool:
        """Handle what happened around marked files and waits in the kernel's queue; return whether there was any."""
        return self._paths.take_in()

    @property
    def in_work(self) -> int:
        """Incidents that may come of what was seen."""
        return self._listener.in_work + self._credentials.in_work + self._reporter.in_work

    async def close(self) -> None:
        """Stop watching; openers that wait go on; what was seen is published when this returns."""
        self._rest.close()
        self._mounts.close()
        self._paths.close()
        self._listener.close()
        await asyncio.sleep(0)  # the loop takes over what the listener's thread answered
        await self._credentials.close()
        await self._reporter.close()

    # -- what directories.PathWatcher asks --------------------------------------------------------------------

    def mark_at(self, path: str) -> Mark | None:
        """Return the decoy whose place this path is, or what is marked there; None: neither."""
        return self._decoys.get(path) or self._marked.get(path)

    def marks_below(self, path: str) -> Iterable[Mark]:
        """Return the decoys whose place lies below this path."""
        return [mark for place, mark in self._decoys.items() if place.startswith(f"{path}/")]

    def look_again(self, path: str) -> None:
        """Look at one path, and what lies below it, and mark what is there now."""
        for gone in self._look(path):
            self._listener.leave(gone)

    def look_everywhere(self) -> None:
        """Look at every path, now, or when the last such look is long enough ago: it holds up the event loop."""
        self._rest.do(lambda: self.look_again("/"))

    # -- what survey finds ------------------------------------------------------------------------------------

    def folder(self, fd: int, path: str, state: State, *, entries: bool) -> bool:
        """Watch a folder; see survey.Findings."""
        known = self._paths.watches(path)
        if not known and self._paths.folders >= MAX_FOLDERS and not _leads_to_known_names(state):
            self._problems["folders"] = f"only {MAX_FOLDERS} folders are watched: {path} and others are not"
            return False
        try:
            self._paths.watch_folder(fd, path, state, entries=entries)
        except AgentBrokerError as error:
            self._problems[f"{path}/"] = f"{path} is not wholly watched: {error.message} ({error.next_step})"
        return True

    def file(self, fd: int, path: str, wanted: Wanted) -> None:
        """Mark a file; see survey.Findings."""
        if wanted.mark is None:
            return
        if path not in self._marked and is_glob(wanted.pattern) and len(self._marked) >= MAX_FOUND:
            self._problems["files"] = f"only {MAX_FOUND} files are marked: {path!r} and others are not"
            return
        mark = wanted.mark if wanted.mark.path == path else replace(wanted.mark, path=path)
        try:
            self._listener.mark(mark, fd)
            if mark.role == "decoy":
                self._paths.watch_content(fd, mark)
        except AgentBrokerError as error:
            self._note_unwatched(path, error)
        if path not in self._marked:
            self._above.update(_folders_of(path))
        self._marked[path] = mark
        self._seen.add(path)

    def is_foreign(self, path: str) -> bool:
        """Whether a user's file system is mounted here; see survey.Findings."""
        return os.fsencode(path) in self._foreign

    def missing(self, state: State, path: str, why: str) -> None:
        """Note a decoy that is not there, and a way that is not gone; see survey.Findings."""
        for wanted in lies_on_way_to(state):
            if wanted.required:
                self._problems[wanted.pattern] = f"{wanted.pattern} can't be watched: {why}"
            elif "user answers for" in why:
                self._problems[path] = f"{path} is not watched: {why}"
            elif "symbolic link" in why and wanted.mark is not None:
                self._problems[path] = f"{path} is a symbolic link and not followed: name its target in [paths] extra"

    def _look(self, way: str) -> list[str]:
        """Look at a path and what lies below; return the paths that were marked there and lead to no file now."""
        if way == "/":
            self._foreign = mounted_by_users()
        inside = [way] if way in self._marked else []
        if way == "/" or way in self._above:
            inside = [path for path in self._marked if way == "/" or path.startswith(f"{way}/")]
        self._seen = set()
        for path in [path for path in self._problems if way == "/" or f"{path}/".startswith(f"{way}/")]:
            del self._problems[path]
        try:
            survey(self._root, self, way)
        finally:
            for path, error in self._listener.finish():
                self._note_unwatched(path, error)
        gone = [path for path in inside if path not in self._seen]
        for path in gone:
            del self._marked[path]
            self._above.subtract(_folders_of(path))
            for folder in _folders_of(path):
                if not self._above[folder]:
                    del self._above[folder]
        return gone

    def _note_unwatched(self, path: str, error: AgentBrokerError) -> None:
        self._problems[path] = f"{path} is not wholly watched: {error.message} ({error.next_step})"

    def _forget(self, path: str) -> None:
        try:
            self._listener.forget(path)
        except AgentBrokerError:
            _log.exception("%s keeps its mark; its opens are not reported", path)

    def _new_paths(self) -> PathWatcher:
        paths = PathWatcher(self._actors, self._reporter, self)
        paths.start()
        return paths


class _Rest:
    """Does something at once, but then not again before a rest: what is asked for meanwhile is done once, after it."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._due: Callable[[], None] | None = None

    def do(self, work: Callable[[], None]) -> None:
        if self._timer is not None:
            self._due = work
            return
        started = time.monotonic()
        work()
        rest_s = max(_REST_S, _REST_TIMES * (time.monotonic() - started))
        self._timer = asyncio.get_running_loop().call_later(rest_s, self._rested)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _rested(self) -> None:
        self._timer = None
        due, self._due = self._due, None
        if due is not None:
            self.do(due)


def _folders_of(path: str) -> list[str]:
    """Return every folder above a path, but ``/``."""
    return [path[:at] for at, char in enumerate(path) if char == "/" and at]


def _leads_to_known_names(state: State) -> bool:
    return any(branch.names for branch in state.branches)


def _in_front_of(
    listener: DecoyListener, marks: KernelMarks | None, actors: Actors, reporter: Reporter
) -> DecoyListener | KernelOpens:
    return listener if marks is None else KernelOpens(listener, marks, actors, reporter)


def _decoys_of(enrollments: Iterable[Enrollment], planted: Iterable[PlantedDecoy]) -> tuple[dict[str, Mark], list[str]]:
    """Return the decoys by path, those of enrolments first, and a sentence for each that is there twice."""
    decoys: dict[str, Mark] = {}
    doubles = []
    for enrollment in enrollments:
        for file in enrollment.decoys:
            owner = enrollment.owner_uid
            decoy = Mark(file.path, enrollment.agent, owner, file.deny, enrollment, kind=file.kind, shared=file.shared)
            if decoys.setdefault(file.path, decoy) != decoy:
                doubles.append(f"{file.path} is enrolled twice: only {decoys[file.path].agent} is exempt there")
    for each in planted:
        decoy = Mark(each.path, None, each.owner_uid, each.deny, kind=each.kind, shared=each.shared)
        if decoys.setdefault(each.path, decoy) != decoy:
            doubles.append(f"{each.path} is planted where an enrolled decoy is: the enrolled one counts")
    return decoys, doubles
