"""The catalogue of credential paths: which paths hold what, and which programs may open them. Data, not code.

``catalogue.toml`` beside this module ships with the product. It is decoded strictly: an unknown key, a pattern that
can't match, or a program that is not described, refuses the whole file with the line.

A program is never named by its name: it is a file that root owns, nobody else can write, and an intact package of the
distribution with one of these names owns (monitor.programs).
"""

import pwd
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from agent_broker.errors import MisuseError
from agent_broker.ids import AgentName, Uid
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import Wanted, is_glob, pattern_problem
from agent_broker.toml_document import KeyPath, TomlDocument

FILE = Path(__file__).with_name("catalogue.toml")
EXTRA = "operators-choice"
"""What ``[paths] extra`` holds, as far as we know."""


class ProgramSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """``[program.NAME]``: files of packages that are one program to whoever runs it."""

    packages: tuple[str, ...]
    """Any of them, since distributions name them differently."""
    files: tuple[str, ...] = ()
    """Patterns of executables, resolved."""
    scripts: tuple[str, ...] = ()
    """Scripts that a package's interpreter runs: what it is given as its first argument."""


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[path]]``: one pattern."""

    pattern: str
    """Absolute, or below a home: ``~/.ssh/id_*`` (monitor.pattern)."""
    holds: str
    """Kind of what is in it: ``ssh-private-key``."""
    programs: tuple[str, ...] = ()
    """Who may open it: names of ``[program.*]``."""
    without_agent: tuple[str, ...] = ()
    """Who may besides, if no enrolled agent is in its lineage; interpreters may stand here and nowhere else."""
    agents: tuple[AgentName, ...] = ()
    """Enrolled agents whose main process may, as its owner, and enrolled tools that may themselves."""
    but_not: tuple[str, ...] = ()
    """Patterns of names that don't count: ``*.pub``."""


class Catalogue(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    program: dict[str, ProgramSpec]
    path: tuple[Entry, ...]

    def with_extra(self, patterns: Iterable[str], ignored: Iterable[str]) -> "Catalogue":
        """Return it with the operator's patterns, and without the entries whose patterns are ignored as written."""
        left_out = set(ignored)
        extra = tuple(Entry(each, EXTRA) for each in patterns)
        kept = tuple(each for each in (*self.path, *extra) if each.pattern not in left_out)
        return Catalogue(self.program, kept)


class Place(Struct, frozen=True):
    """One pattern of one home, or of the machine, with its entry."""

    entry: Entry
    pattern: str
    owner_uid: Uid


def load_catalogue(path: Path = FILE) -> Catalogue:
    """Return the catalogue of a file.

    Raises:
        MisuseError: it has a mistake, with its line.
        OSError: it can't be read.
    """
    document = TomlDocument(path.read_bytes(), path.name)
    catalogue = document.decode(Catalogue)
    for where, problem in _problems(catalogue):
        raise document.misuse(where, problem)
    return catalogue


@lru_cache(maxsize=1)
def shipped_catalogue() -> Catalogue:
    """Return the catalogue that ships with the product.

    Raises:
        MisuseError: as load_catalogue.
    """
    return load_catalogue()


def places_of(catalogue: Catalogue, homes: Mapping[Uid, str]) -> tuple[Place, ...]:
    """Return the catalogue's patterns in these users' homes, and those of the machine, in the catalogue's order."""
    places = []
    for entry in catalogue.path:
        if not entry.pattern.startswith("~"):
            places.append(Place(entry, entry.pattern, Uid(0)))
        else:
            places += [Place(entry, home + entry.pattern[1:], owner) for owner, home in homes.items()]
    return tuple(places)


def wanted_of(places: Iterable[Place], *, deny: bool) -> list[Wanted]:
    """Return what is to be marked for these places."""
    return [
        Wanted(
            each.pattern,
            Mark(
                each.pattern,
                None,
                each.owner_uid,
                deny,
                role="credential",
                agents=each.entry.agents,
                kind=each.entry.holds,
            ),
            but_not=each.entry.but_not,
        )
        for each in places
    ]


def ignored_places(patterns: Iterable[str], homes: Mapping[Uid, str]) -> list[Wanted]:
    """Return patterns whose files are not marked, except as decoys."""
    catalogue = Catalogue({}, tuple(Entry(each, "") for each in patterns))
    return [Wanted(each.pattern, None) for each in places_of(catalogue, homes)]


def home_of_user(owner: Uid) -> str:
    """Return a user's home as the password database tells it, resolved; empty: it has none, or ``/``."""
    try:
        home = pwd.getpwuid(owner).pw_dir
    except KeyError:
        return ""
    resolved = str(Path(home).resolve()) if home.startswith("/") else "/"
    # A home with one of these in its name would be a pattern itself.
    return "" if resolved == "/" or is_glob(resolved) else resolved


def _problems(catalogue: Catalogue) -> Iterable[tuple[KeyPath, str]]:
    for number, entry in enumerate(catalogue.path):
        if problem := pattern_problem(entry.pattern):
            yield ("path", number, "pattern"), problem
        for field in ("programs", "without_agent"):
            for name in getattr(entry, field):
                if name not in catalogue.program:
                    yield ("path", number, field), f"no program is called {name}"
    for name, program in catalogue.program.items():
        if not program.packages or not (program.files or program.scripts):
            yield ("program", name), "needs packages, and files or scripts"
        for each in (*program.files, *program.scripts):
            if not each.startswith("/"):
                yield ("program", name), "files and scripts are absolute paths"


def require_known(catalogue: Catalogue, pattern: str) -> Entry:
    """Return the entry of a pattern.

    Raises:
        MisuseError: there is none.
    """
    for entry in catalogue.path:
        if entry.pattern == pattern:
            return entry
    raise MisuseError(f"the catalogue has no pattern {pattern!r}", next_step="agent-broker paths list shows them")
