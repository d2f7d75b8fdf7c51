"""What an agent is to the generic machinery: a survey of its files, a rule for its role, a list of likely binaries.

A survey is made twice, once for the plan and once when the plan is applied, and holds secrets; a plan holds none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol

from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import Format, Pointer, Value
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import RoleRule, SettingsFile
from agent_broker.ids import AgentName, Sha256
from agent_broker.vault.secret import Secret


class AbsentError(MisuseError):
    """Nothing of the agent's that could be enrolled is in the home."""


class Wire(Enum):
    """A value that is known only when the plan is applied."""

    PHANTOM = "phantom"
    INJECTION_URL = "injection URL"


@dataclass(frozen=True)
class InjectionPath:
    """The injection URL with a path behind it: known only when the plan is applied, too."""

    path: str
    """Begins with a slash."""


@dataclass(frozen=True)
class SetMember:
    """Set a member of a file."""

    path: Pointer
    value: Value | Wire | InjectionPath = field(repr=False)
    follows: Pointer | None = None
    """A member with a value that only we can have put there. If the owner changes that one, this one is the owner's
    too, even if it is the same: a scope or a date can be the same by chance."""


@dataclass(frozen=True)
class RemoveMember:
    """Remove a member of a file."""

    path: Pointer


@dataclass(frozen=True)
class ReplaceFile:
    """Put other bytes in the place of a whole file that is of none of the formats; the only edit of its file."""

    data: bytes = field(repr=False)


Edit = SetMember | RemoveMember | ReplaceFile


@dataclass(frozen=True)
class SurveyedFile:
    """A file that will be changed, or made."""

    path: str
    """Relative to the home."""
    content: Content | None
    """None: it is missing and will be made."""
    edits: tuple[Edit, ...]
    put_back: bool = True
    """Whether unenroll makes it again if somebody deleted it; False for backups, which agents rotate."""
    format: Format = "json"


Form = Literal["object", "text", "fixed"]
"""How the vault's secret and the file's value correspond: the same object, as JSON in the vault; the same text; not at
all (a secret of this form is never written back, the original file's value is)."""


@dataclass(frozen=True)
class FoundSecret:
    """A secret in a file, on its way to the vault."""

    name: str
    """The last part of its credential id."""
    kind: str
    """A kind of the vault's."""
    value: Secret
    file: str
    path: Pointer
    form: Form
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Return where it is, for people."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Row:
    """One line of the plan's table. Says kinds, never values."""

    file: str
    holds: str
    will: str


@dataclass(frozen=True)
class Decoy:
    """A file that holds a decoy afterwards."""

    path: str
    kind: str
    values_sha256: tuple[Sha256, ...] = ()
    """Of the values that this survey made for it: each survey makes others."""
    shared: bool = False
    """Other programs of the owner's read the file: see DecoyFile."""


@dataclass(frozen=True)
class Survey:
    """What is in a home, and what enrolment does to it."""

    files: tuple[SurveyedFile, ...]
    """In the order in which they are changed."""
    secrets: tuple[FoundSecret, ...]
    active: str
    """The name of the secret that the agent uses."""
    decoys: tuple[Decoy, ...]
    needles: tuple[Secret, ...]
    """What must be nowhere in the home afterwards."""
    scan_first: tuple[str, ...]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    movable: tuple[str, ...] = ()
    """Variables that profiles set, each ``NAME in FILE:LINE``: they move if their owner agrees (enroll.exported)."""
    links: tuple[str, ...] = ()
    """Of a tool: links of root's to the shim, absolute (enroll.helper_links)."""
    settings: tuple[SettingsFile, ...] = ()
    """Whose changes by others are told, beside those of enroll.settings_places."""


class Recipe(Protocol):
    """One kind of agent."""

    @property
    def agent(self) -> AgentName:
        """Its name in ids and commands."""
        ...

    @property
    def role(self) -> RoleRule:
        """Which of its images are the main process."""
        ...

    @property
    def is_script(self) -> bool:
        """Whether an interpreter runs it (enroll.program); otherwise it is a native executable."""
        ...

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """Look at a home; changes nothing.

        Raises:
            MisuseError: something is there that can't be enrolled safely, or there is nothing to enroll.
        """
        ...

    def executable_of(self, named: Path) -> Path:
        """Return the file to enroll for one that the operator named: of a launcher, what it starts."""
        ...

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterable[Path]:
        """Yield where its executable may be, likeliest first."""
        ...
