"""The decoys of the registry, watched: marks where the files are, and again wherever they reappear.

What is guaranteed: when ``apply_registry`` returns, every decoy that it did not name as a problem is marked; decoys
that stay enrolled keep their marks throughout. A decoy that is missing, replaced by something that is not a regular
file, or on a file system that is not mounted yet, is a problem, and is marked as soon as its path leads to a file
again. No descriptor of a user's file or folder is kept open, so homes can be unmounted.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from agent_broker.clock import Clock
from agent_broker.errors import AgentBrokerError
from agent_broker.identity.registry import Enrollment
from agent_broker.kernel.events import FileFacts
from agent_broker.monitor.actor import Actors, AttestorPort
from agent_broker.monitor.decoys import DecoyListener
from agent_broker.monitor.directories import PathWatcher
from agent_broker.monitor.fingerprint import Fingerprints, HashStore
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.mounts import MountWatch
from agent_broker.monitor.pathwalk import Walk
from agent_broker.monitor.report import Publish, Reporter, Watcher

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
    ) -> None:
        """Make the groups; nothing is watched, and no thread runs, before ``apply_registry``.

        So a process can give up privileges in between: they are given up by each thread for itself.

        Args:
            attestor: identifies openers.
            hashes: the cache that is shared with the attestor.
            facts_of: the kernel's numbers of a descriptor of ours, or fingerprint.facts_by_stat.
            publish: takes incidents; must be durable when it returns.
            clock: for the incidents' times.
            watcher: this monitor's epoch and tier.
            permission: whether the kernel lets openers wait for us (tiers.Tier).

        Raises:
            UnavailableError: the kernel refuses fanotify.
        """
        self._actors = Actors(attestor)
        self._reporter = Reporter(
            actors=self._actors,
            fingerprints=Fingerprints(hashes, facts_of),
            publish=publish,
            clock=clock,
            watcher=watcher,
        )
        self._decoys: dict[str, Mark] = {}
        self._problems: dict[str, str] = {}
        self._listener = DecoyListener(self._actors, self._reporter, permission=permission)
        self._paths = self._new_paths()
        self._mounts = MountWatch(self._recheck_all)

    @property
    def decoys_watched(self) -> int:
        """Decoys that are marked now."""
        return len(self._decoys) - len(self._problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each decoy that is not, or not wholly, watched now."""
        return tuple(self._problems.values())

    def apply_registry(self, enrollments: Iterable[Enrollment]) -> tuple[str, ...]:
        """Watch exactly the decoys of these enrolments; return ``problems``, and each path that is enrolled twice."""
        self._listener.start()
        wanted, doubles = _decoys_of(enrollments)
        gone = self._decoys.keys() - wanted.keys()
        for path in gone:
            self._forget(path)
        self._decoys = wanted
        if gone:
            self._replace_paths()
        for path in wanted:
            self._recheck(path)
        return (*self.problems, *doubles)

    async def close(self) -> None:
        """Stop watching; openers that wait go on; what was seen is published when this returns."""
        self._mounts.close()
        self._paths.close()
        self._listener.close()
        await asyncio.sleep(0)  # the loop takes over what the listener's thread answered
        await self._reporter.close()

    def _forget(self, path: str) -> None:
        self._problems.pop(path, None)
        try:
            self._listener.forget(path)
        except AgentBrokerError:
            _log.exception("%s keeps its mark; its opens are not reported", path)

    def _new_paths(self) -> PathWatcher:
        paths = PathWatcher(self._actors, self._reporter, self._recheck)
        paths.start()
        return paths

    def _replace_paths(self) -> None:
        """Start over with the folders' marks: the new ones are set before the old ones go."""
        old, self._paths = self._paths, self._new_paths()
        for path in self._decoys:
            self._recheck(path)
        old.close()

    def _recheck_all(self) -> None:
        for path in self._decoys:
            self._recheck(path)

    def _recheck(self, path: str) -> None:
        """Walk a decoy's path again and mark what is there; note a problem, or that there is none any more."""
        decoy = self._decoys.get(path)
        if decoy is None:
            return
        with Walk(path) as walk:
            problems = [walk.problem] if walk.problem else []
            try:
                if walk.file is not None:
                    self._listener.mark(decoy, walk)
                self._paths.watch(decoy, walk)
            except AgentBrokerError as error:
                problems.append(f"{path} is not wholly watched: {error.message} ({error.next_step})")
        self._problems.pop(path, None)
        if problems:
            self._problems[path] = "; ".join(problems)


def _decoys_of(enrollments: Iterable[Enrollment]) -> tuple[dict[str, Mark], list[str]]:
    decoys: dict[str, Mark] = {}
    doubles = []
    for enrollment in enrollments:
        for file in enrollment.decoys:
            decoy = Mark(file.path, enrollment.agent, enrollment.owner_uid, file.deny, enrollment)
            if decoys.setdefault(file.path, decoy) != decoy:
                doubles.append(f"{file.path} is enrolled twice: only {decoys[file.path].agent} is exempt there")
    return decoys, doubles
