"""What the catalogue, the operator's options and root's records let whom open; no process is looked at.

The order in which this is asked, and the law, are those of monitor.credentials.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_broker.identity.allowed import AllowedProgram
from agent_broker.identity.evidence import Evidence, Unknown, Verdict
from agent_broker.ids import Uid
from agent_broker.monitor.catalogue import (
    Catalogue,
    Entry,
    Place,
    ProgramSpec,
    home_of_user,
    ignored_places,
    places_of,
    wanted_of,
)
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import Wanted, is_glob, matches, tree_of
from agent_broker.monitor.programs import Program

_MAX_DECIDED = 4096


@dataclass(frozen=True, slots=True)
class PathOptions:
    """``[paths]`` of config.toml."""

    enabled: bool = True
    deny: bool = False
    extra: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class CredentialRules:
    """See the module. Belongs to the event loop."""

    def __init__(
        self, catalogue: Catalogue, options: PathOptions, home_of: Callable[[Uid], str] = home_of_user
    ) -> None:
        """Allow what the catalogue and the options say.

        Args:
            catalogue: as it ships.
            options: the operator's.
            home_of: a user's home, resolved; empty: none.
        """
        self._catalogue = catalogue.with_extra(options.extra, options.ignore)
        self._options = options
        self._home_of = home_of
        self._allowed: tuple[AllowedProgram, ...] = ()
        self._places: dict[str, Place] = {}
        self._rules: dict[str, Place | None] = {}

    def wanted(self, owners: Iterable[Uid]) -> list[Wanted]:
        """Return what is to be marked for these users; from now on their places are known."""
        self._rules.clear()
        self._places = {}
        if not self._options.enabled:
            return []
        homes = {owner: home for owner in sorted(set(owners)) if (home := self._home_of(owner))}
        places = places_of(self._catalogue, homes)
        for each in places:
            self._places.setdefault(each.pattern, each)
        return [*wanted_of(places, deny=self._options.deny), *ignored_places(self._options.ignore, homes)]

    def allow(self, allowed: Iterable[AllowedProgram]) -> None:
        """Let these programs, and no others beside the catalogue's, open what their records say."""
        self._allowed = tuple(allowed)

    def concerns(self, mark: Mark) -> bool:
        """Whether anybody may open this file for what is said here."""
        return mark.role == "credential" or mark.shared or bool(self.records_of(mark))

    @property
    def denies(self) -> bool:
        """Whether credential paths are watched and denied: then openers wait for our answer."""
        return self._options.enabled and self._options.deny

    @property
    def named_files(self) -> list[str]:
        """Executables that the catalogue names, there or not, without those that it only describes by a pattern."""
        return [file for each in self._catalogue.program.values() for file in each.files if not is_glob(file)]

    @property
    def programs(self) -> tuple[str, ...]:
        """Executables that may be allowed something: of the catalogue, as far as they are there, and of the records."""
        globs = [glob for each in self._catalogue.program.values() for glob in each.files]
        files = {str(path) for glob in globs for path in Path("/").glob(glob[1:])}
        return tuple(sorted(files | {each.program for each in self._allowed}))

    def allows(self, place: Place | None, verdict: Verdict, program: Program) -> bool:
        """Whether the catalogue lets this program, or this agent, open a place."""
        if place is None:
            return False
        if is_agent_of(place, verdict):
            return True
        specs = self.specs(place.entry, verdict)
        return bool(program.package) and any(_is_file_of(each, program) for each in specs)

    def specs(self, entry: Entry, verdict: Verdict) -> list[ProgramSpec]:
        """Return the programs that an entry of the catalogue lets an opener be."""
        names = (*entry.programs, *entry.without_agent) if is_alone(verdict) else entry.programs
        return [self._catalogue.program[name] for name in names]

    def records_of(self, mark: Mark) -> list[AllowedProgram]:
        """Return root's records for a file that have not expired."""
        now_ns = time.time_ns()
        return [each for each in self._allowed if each.holds_at(now_ns) and _opens(each, mark.path)]

    def place_of(self, mark: Mark) -> Place | None:
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


def is_agent_of(place: Place, verdict: Verdict) -> bool:
    """Whether an opener is the main process of an agent, or a tool, that a place belongs to, for the home's owner."""
    if not isinstance(verdict, Evidence) or verdict.taints:
        return False
    principal, tool, opener = verdict.principal, verdict.tool, verdict.freshness
    if tool is not None and (tool.proc_id, tool.exec_id) == (opener.proc_id, opener.exec_id):
        return tool.tool in place.entry.agents and tool.owner_uid == place.owner_uid == verdict.uid
    if principal is None:
        return False
    return (
        principal.is_caller
        and principal.agent in place.entry.agents
        and principal.owner_uid == place.owner_uid == verdict.uid
    )


def is_alone(verdict: Verdict) -> bool:
    """Whether it is known that no agent is in an opener's lineage."""
    return isinstance(verdict, Evidence) and verdict.principal is None


def is_refused_at_once(verdict: Verdict) -> bool:
    """Whether an opener is tainted, or reached for what is an agent's: it may not, whatever its program is."""
    return bool(verdict.taints) if isinstance(verdict, Evidence) else isinstance(verdict, Unknown) and verdict.hostile
