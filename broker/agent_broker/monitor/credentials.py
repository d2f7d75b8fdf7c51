"""Credential paths: which there are, and whether an opener may open one.

The law, for an opener of a file at a credential path, in this order:

1. A tainted opener, and one that reached for what is an agent's, may not.
2. The main process of an enrolled agent that the entry names, running for the home's owner, may.
3. A program that the entry names may: an intact file of one of its packages (monitor.programs). Also below an agent.
4. A program that the entry names for use without an agent may, if no agent is in its lineage and that is known.
5. A program whose hash root allowed for this path may, until that expires; an interpreter never. That counts for decoys
   too, if no agent is in its lineage: backups and searches read them. A decoy in a file that the owner's own tools
   read (Mark.shared) follows the rules above as well.
6. Everybody else is reported (monitor.detection), except while root lets the monitor learn (monitor.learning).

Reload forgets what was found out of packages.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.allowed import AllowedProgram, is_interpreter
from agent_broker.identity.evidence import Evidence, Unknown, Verdict, steps_of
from agent_broker.identity.executable import HashCache
from agent_broker.ids import Sha256, Uid
from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Image
from agent_broker.monitor.actor import Actor, exe_path
from agent_broker.monitor.catalogue import (
    Catalogue,
    Entry,
    Place,
    ProgramSpec,
    home_of_user,
    ignored_places,
    places_of,
    shipped_catalogue,
    wanted_of,
)
from agent_broker.monitor.fingerprint import Fingerprints, HashStore
from agent_broker.monitor.learning import Learning, Lesson
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import Wanted, is_glob, matches, tree_of
from agent_broker.monitor.programs import UNKNOWN, NoPackages, PackageOwners, Program, Programs

MAX_PENDING = 512  # openers whose program is looked up; each holds two descriptors
_MAX_DECIDED = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opener:
    """What could be told of who opened a credential path."""

    is_allowed: bool
    program: Program = UNKNOWN
    sha256: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class PathOptions:
    """``[paths]`` of config.toml."""

    enabled: bool = True
    deny: bool = False
    extra: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class Credentials:
    """See the module. Belongs to the event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        options: PathOptions,
        programs: Programs,
        learning: Learning | None = None,
        home_of: Callable[[Uid], str] = home_of_user,
    ) -> None:
        """Watch what the catalogue and the options say.

        Args:
            catalogue: as it ships.
            options: the operator's.
            programs: identifies openers.
            learning: takes what would be reported; None: there is no learn mode.
            home_of: a user's home, resolved; empty: none.
        """
        self._catalogue = catalogue.with_extra(options.extra, options.ignore)
        self._options = options
        self._programs = programs
        self._home_of = home_of
        self._learning = learning
        self._allowed: tuple[AllowedProgram, ...] = ()
        self._places: dict[str, Place] = {}
        self._rules: dict[str, Place | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: asyncio.Task[None] | None = None
        self.look_again: Callable[[Actor, Verdict], Awaitable[Verdict]] | None = None
        """Finds out more of an opener that is unknown: an agent that is started first opens its files before its code
        was hashed. None: nobody can."""

    @classmethod
    def shipped(
        cls,
        options: PathOptions,
        owners: PackageOwners,
        hashes: HashStore,
        facts_of: Callable[[int], FileFacts],
        learning: Learning,
    ) -> "Credentials":
        """Return one with the catalogue that ships, and a distribution that is asked for packages.

        Raises:
            MisuseError, OSError: the catalogue can't be used.
        """
        return cls(shipped_catalogue(), options, Programs(owners, Fingerprints(hashes, facts_of), facts_of), learning)

    @classmethod
    def none(cls, facts_of: Callable[[int], FileFacts]) -> "Credentials":
        """Return one that watches nothing."""
        programs = Programs(NoPackages(), Fingerprints(HashCache(), facts_of), facts_of)
        return cls(Catalogue({}, ()), PathOptions(enabled=False), programs)

    def wanted(self, owners: Iterable[Uid]) -> list[Wanted]:
        """Return what is to be marked for these users; what was found out of packages is forgotten."""
        self._programs.forget()
        self._rules.clear()
        if not self._options.enabled:
            self._places = {}
            return []
        homes = {owner: home for owner in sorted(set(owners)) if (home := self._home_of(owner))}
        places = places_of(self._catalogue, homes)
        self._places = {}
        for each in places:
            self._places.setdefault(each.pattern, each)
        if self._options.deny:
            self._warm()
        return [*wanted_of(places, deny=self._options.deny), *ignored_places(self._options.ignore, homes)]

    def allow(self, allowed: Iterable[AllowedProgram]) -> None:
        """Let these programs, and no others beside the catalogue's, open what their records say."""
        self._allowed = tuple(allowed)

    def concerns(self, mark: Mark) -> bool:
        """Whether anybody may open this file for what is said here."""
        return mark.role == "credential" or mark.shared or bool(self._records_of(mark))

    @property
    def programs(self) -> tuple[str, ...]:
        """Executables that may be allowed something: of the catalogue, as far as they are there, and of the records."""
        globs = [glob for each in self._catalogue.program.values() for glob in each.files]
        files = {str(path) for glob in globs for path in Path("/").glob(glob[1:])}
        return tuple(sorted(files | {each.program for each in self._allowed}))

    def decide(
        self, mark: Mark, verdict: Verdict, actor: Actor, then: Callable[[Opener], None], *, waited: bool
    ) -> None:
        """Find out whether an opener may, and call ``then`` with it in the loop: at once if that is known already.

        The actor's descriptors stay the caller's, and must stay open until then.

        Args:
            mark: what was opened.
            verdict: what is recorded of the opener.
            actor: the opener.
            then: called once.
            waited: the opener waited for us while its executable was held, so that it can't be another one.
        """
        if not self.concerns(mark):
            then(Opener(is_allowed=False))
            return
        image = _image_of(verdict)
        facts = image.file if image is not None else self._programs.held(actor) if waited else None
        place = self._place_of(mark)
        known = self._programs.known(facts) if facts is not None else None
        if known is not None and (self._allows(place, verdict, known) or _is_refused_at_once(verdict)):
            then(Opener(is_allowed=not _is_refused_at_once(verdict), program=known))
            return
        if facts is None or len(self._tasks) >= MAX_PENDING:
            then(Opener(is_allowed=place is not None and _is_agent_of(place, verdict)))
            return
        task = asyncio.get_running_loop().create_task(self._look_closer((mark, place, verdict, actor), facts, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def learns(self, mark: Mark, verdict: Verdict, opener: Opener) -> bool:
        """Take an opener that may not, and was let through, as something to propose; False: it is to be reported."""
        if self._learning is None or mark.role != "credential" or mark.deny or _is_refused_at_once(verdict):
            return False
        program = opener.program
        if not isinstance(verdict, Evidence) or not _is_alone(verdict) or opener.sha256 is None:
            return False
        if not program.is_roots or is_interpreter(program.path):
            return False
        place = self._place_of(mark)
        lesson = Lesson(
            program=program.path,
            sha256=opener.sha256,
            package=program.title,
            opens=place.pattern if place is not None else mark.path,
            path=mark.path,
            uid=verdict.uid,
            lineage=tuple(step.image.filename for step in verdict.steps),
        )
        return self._learning.learn(lesson)

    async def close(self) -> None:
        """Finish what was begun."""
        if self._warming is not None:
            self._warming.cancel()
        await asyncio.gather(*self._tasks)
        await self._programs.close()
        if self._learning is not None:
            self._learning.close()

    def _warm(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
        files = [file for each in self._catalogue.program.values() for file in each.files if not is_glob(file)]
        self._warming = asyncio.get_running_loop().create_task(self._programs.warm(files))

    async def _look_closer(self, opened: "_Opened", facts: FileFacts, then: Callable[[Opener], None]) -> None:
        opener = Opener(is_allowed=False)
        try:
            opener = await self._opener(opened, facts)
        except (AgentBrokerError, OSError):
            _log.exception("who opened %r could not be looked up", opened[0].path)
        finally:
            then(opener)

    async def _opener(self, opened: "_Opened", facts: FileFacts) -> Opener:
        mark, place, verdict, actor = opened
        if isinstance(verdict, Unknown) and not verdict.hostile and self.look_again is not None:
            verdict = await self.look_again(actor, verdict)
        program = UNKNOWN
        for path in _paths_of(actor, verdict):
            if not program.is_roots:
                program = await self._programs.identify(facts, path)
        if _is_refused_at_once(verdict):
            return Opener(is_allowed=False, program=program)
        if self._allows(place, verdict, program) or await self._allows_script(place, verdict, program):
            return Opener(is_allowed=True, program=program)
        records = self._records_of(mark) if _is_alone(verdict) else []
        learning = mark.role == "credential" and self._learning is not None and self._learning.is_on
        if actor.exe_fd is None or not (records or learning):
            return Opener(is_allowed=False, program=program)
        sha256 = await self._programs.hash_of(facts, actor.exe_fd)
        allowed = any(each.sha256 == sha256 for each in records) and not is_interpreter(program.path)
        return Opener(is_allowed=allowed, program=program, sha256=sha256)

    def _allows(self, place: Place | None, verdict: Verdict, program: Program) -> bool:
        """Whether the catalogue lets this program, or this agent, open a place."""
        if place is None:
            return False
        if _is_agent_of(place, verdict):
            return True
        specs = self._specs(place.entry, verdict)
        return bool(program.package) and any(_is_file_of(each, program) for each in specs)

    async def _allows_script(self, place: Place | None, verdict: Verdict, program: Program) -> bool:
        image = _image_of(verdict)
        if place is None or image is None or not program.package:
            return False
        specs = [each for each in self._specs(place.entry, verdict) if each.scripts]
        if not specs:
            return False
        given, script = await self._programs.script_of(image, program)
        return any(given in each.scripts and script.package in each.packages for each in specs)

    def _specs(self, entry: Entry, verdict: Verdict) -> list[ProgramSpec]:
        names = (*entry.programs, *entry.without_agent) if _is_alone(verdict) else entry.programs
        return [self._catalogue.program[name] for name in names]

    def _records_of(self, mark: Mark) -> list[AllowedProgram]:
        now_ns = time.time_ns()
        return [each for each in self._allowed if each.holds_at(now_ns) and _opens(each, mark.path)]

    def _place_of(self, mark: Mark) -> Place | None:
        """Return the place that a mark belongs to: the first whose pattern its path matches; a decoy, if it shares."""
        if mark.role != "credential" and not mark.shared:
            return None
        if mark.path not in self._rules:
            if len(self._rules) >= _MAX_DECIDED:
                self._rules.clear()
            self._rules[mark.path] = self._find_place(mark.path)
        return self._rules[mark.path]

    def _find_place(self, path: str) -> Place | None:
        if path in self._places:
            return self._places[path]
        name = path.rpartition("/")[2]
        for each in self._places.values():
            but_not = each.entry.but_not
            if is_glob(each.pattern) and matches_path(path, each.pattern) and not matches_any(name, but_not):
                return each
        return None


_Opened = tuple[Mark, Place | None, Verdict, Actor]


def matches_any(name: str, globs: Iterable[str]) -> bool:
    """Whether one name matches one of these components."""
    return any(matches(name, each) for each in globs)


def matches_path(path: str, pattern: str) -> bool:
    """Whether a path matches one pattern (monitor.pattern)."""
    state = tree_of([Wanted(pattern, Mark(pattern, None, Uid(0), deny=False))])
    parts = path.split("/")[1:]
    for part in parts:
        state = state.step(part)
    return state.wanted_as(parts[-1]) is not None


def _opens(record: AllowedProgram, path: str) -> bool:
    return any(each == path or (is_glob(each) and matches_path(path, each)) for each in record.opens)


def _is_file_of(spec: ProgramSpec, program: Program) -> bool:
    return program.package in spec.packages and any(matches(program.path, each) for each in spec.files)


def _is_agent_of(place: Place, verdict: Verdict) -> bool:
    if not isinstance(verdict, Evidence) or verdict.taints or verdict.principal is None:
        return False
    principal = verdict.principal
    return (
        principal.is_caller
        and principal.agent in place.entry.agents
        and principal.owner_uid == place.owner_uid == verdict.uid
    )


def _is_alone(verdict: Verdict) -> bool:
    return isinstance(verdict, Evidence) and verdict.principal is None


def _is_refused_at_once(verdict: Verdict) -> bool:
    return bool(verdict.taints) if isinstance(verdict, Evidence) else isinstance(verdict, Unknown) and verdict.hostile


def _paths_of(actor: Actor, verdict: Verdict) -> list[str]:
    """Return where an opener's executable may be, in the monitor's own view: its word, to be verified."""
    held = [path] if (path := exe_path(actor)) else []
    image = _image_of(verdict)
    return held if image is None else list(dict.fromkeys((*held, image.filename)))


def _image_of(verdict: Verdict) -> Image | None:
    steps = steps_of(verdict)
    return steps[0].image if steps else None
