"""Which keys an agent reads from its environment or from lines of its own, and who else needs the same line.

A line that two agents read is not taken from one for the other: it moves for both, in one command, or it stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent_broker.enroll.recipe import Form
from agent_broker.ids import Uid
from agent_broker.vault.secret import Secret

OwnLine = tuple[str, str]
"""A file relative to the home, and a variable in it."""


@dataclass(frozen=True)
class Variable:
    """What a variable of an agent's holds."""

    secret: str
    """The last part of its credential id."""
    kind: str
    """A kind of the vault's."""
    form: Form = "text"
    wrap: Callable[[str], str] = str
    """Makes the vault's form of it."""
    only_in: str = ""
    """The one file below the home in which the agent reads it, and from which it moves; empty: wherever it is set."""

    def moves_from(self, path: str) -> bool:
        """Return whether it moves out of a file, which is named relative to the home."""
        return self.only_in in {"", path}


@dataclass(frozen=True)
class KeyReader:
    """Another agent of the same user, enrolled or installed."""

    agent: str
    own: frozenset[OwnLine]
    """Lines of its own: its own enrolment puts its phantom there."""
    variables: Mapping[str, Variable]
    """What it reads from its environment."""
    enrolled: bool
    beside: bool
    """The same command enrols it, so the key is moved for both."""

    def owns(self, path: str, name: str) -> bool:
        """Return whether a line is one of its own."""
        return (path, name) in self.own

    def needs(self, path: str, name: str) -> bool:
        """Return whether it would miss a line; once it is enrolled it needs none that only its environment has."""
        variable = self.variables.get(name)
        return self.owns(path, name) or (not self.enrolled and variable is not None and variable.moves_from(path))

    def keeps(self, path: str, name: str) -> bool:
        """Return whether the line has to stay for it."""
        return self.needs(path, name) and (self.owns(path, name) or not self.beside)


@dataclass
class Carried:
    """Keys that one command has moved for one agent, for the agents after it that read them as well."""

    _seen: dict[tuple[Uid, str, str], Secret] = field(default_factory=dict)
    _moved: set[tuple[Uid, str, str]] = field(default_factory=set)

    def see(self, uid: Uid, path: str, name: str, value: Secret) -> None:
        """Note what a line says; nothing comes of it unless it is moved."""
        self._seen[uid, path, name] = value

    def move(self, uid: Uid, lines: Iterable[OwnLine]) -> None:
        """Note that an enrolment is done that has moved these lines."""
        self._moved.update((uid, path, name) for path, name in lines)

    def of(self, uid: Uid) -> Iterator[tuple[str, str, Secret]]:
        """Yield file, variable and value of each line of a user's that was moved."""
        yield from (
            (path, name, value)
            for (owner, path, name), value in self._seen.items()
            if owner == uid and (owner, path, name) in self._moved
        )
