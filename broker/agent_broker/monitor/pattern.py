"""Patterns of paths, all at once: what a folder must be watched for, and what a file in it is marked as.

A pattern is an absolute path. A component may hold ``*``, ``?`` and ``[...]``, which match within one name, hidden
names included; ``**`` as the last one means every file below. All patterns of a monitor are one tree of components,
so that a folder which a thousand patterns lead through is entered once.

Where several patterns match one file the order is: a decoy, then what the operator ignores, then everything else, plain
names before ``*`` before ``**``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache

from agent_broker.monitor.mark import Mark

EVERYTHING_BELOW = "**"
MAX_PATTERN_CHARS = 4096  # PATH_MAX
_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One pattern, and what a file that matches it is marked as."""

    pattern: str
    mark: Mark | None
    """Its path is replaced by the file's; None: a file that matches is not marked (but a decoy is)."""
    required: bool = False
    """That there is no such file is a problem; only for patterns without ``*``."""
    but_not: tuple[str, ...] = ()
    """Patterns of names that don't match after all."""


@dataclass(slots=True, eq=False)
class Branch:
    """The patterns that begin alike, from one component on."""

    names: dict[str, "Branch"] = field(default_factory=dict)
    globs: dict[str, "Branch"] = field(default_factory=dict)
    below: list[Wanted] = field(default_factory=list)
    here: list[Wanted] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class State:
    """What may still match at, and below, one path; false if nothing does."""

    branches: tuple[Branch, ...] = ()
    below: tuple[Wanted, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.branches or self.below)

    @property
    def leads_on(self) -> bool:
        """Whether something may match below."""
        return bool(self.below) or any(each.names or each.globs or each.below for each in self.branches)

    @property
    def must_list(self) -> bool:
        """Whether the folder's entries must be read, since not all names are known."""
        return bool(self.below) or any(each.globs or each.below for each in self.branches)

    @property
    def holds_files(self) -> bool:
        """Whether a file in this folder may match."""
        return self.must_list or any(child.here for each in self.branches for child in each.names.values())

    @property
    def names(self) -> list[str]:
        """The names that are known, each once."""
        return list(dict.fromkeys(name for each in self.branches for name in each.names))

    @property
    def required(self) -> tuple[Wanted, ...]:
        """What must be a file at this path."""
        return tuple(each for branch in self.branches for each in branch.here if each.required)

    def step(self, name: str) -> "State":
        """Return the state of one entry of this folder."""
        found: list[Branch] = []
        below = self.below
        for branch in self.branches:
            below += tuple(branch.below)
            if name in branch.names:
                found.append(branch.names[name])
            found += [child for glob, child in branch.globs.items() if matches(name, glob)]
        return State(tuple(found), below)

    def wanted_as(self, name: str) -> Wanted | None:
        """Return what a regular file at this path, with this name, is wanted as; None: it is not."""
        found = [each for branch in self.branches for each in branch.here]
        found += self.below
        fitting = [each for each in found if not any(matches(name, glob) for glob in each.but_not)]
        best = min(fitting, key=_rank, default=None)
        return best if best is not None and best.mark is not None else None


def tree_of(wanted: Iterable[Wanted]) -> State:
    """Return the state of ``/`` for these patterns, which must have no problem."""
    root = Branch()
    for each in wanted:
        *folders, last = each.pattern.split("/")[1:]
        branch = root
        for part in folders if last == EVERYTHING_BELOW else (*folders, last):
            children = branch.globs if is_glob(part) else branch.names
            branch = children.setdefault(part, Branch())
        (branch.below if last == EVERYTHING_BELOW else branch.here).append(each)
    return State((root,))


def pattern_problem(pattern: str) -> str:
    """Return what is wrong with a pattern of the catalogue or of config.toml; empty if nothing."""
    below = pattern.removeprefix("~")
    parts = below.split("/")[1:]
    if not below.startswith("/") or not parts[-1] or pattern.startswith("~~"):
        return "must be an absolute path of a file, or begin with ~/"
    if len(pattern) > MAX_PATTERN_CHARS or "\0" in pattern:
        return f"must have no more than {MAX_PATTERN_CHARS} characters, and no NUL"
    if any(part in {"", ".", ".."} for part in parts):
        return "must have no empty component, no . and no .."
    if EVERYTHING_BELOW in parts[:-1]:
        return "** may only be the last component"
    if is_glob(parts[0]) and not pattern.startswith("~"):
        return "must begin with a folder's name"
    return ""


def is_glob(part: str) -> bool:
    """Whether a component, or a whole pattern, matches more than itself."""
    return not _GLOB.isdisjoint(part)


def matches(name: str, glob: str) -> bool:
    """Whether one name matches one component."""
    return _compiled(glob).fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


def _rank(wanted: Wanted) -> int:
    if wanted.mark is None:
        return 1
    return 0 if wanted.mark.role == "decoy" else 2
