"""The enrolled agents, as root wrote them down: read by the monitor and the broker, written by enroll.

One JSON file an enrolment in ``registry/agents``, owned by root and writable by root alone; a file that is
not is refused, since it decides who is an agent.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from agent_broker.disk import require_root_owned
from agent_broker.identity.records import load_record, remove_record, save_record
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid

ONLY_ACCOUNT: Final = "main"
"""What the enrolled credential's account is called if nobody named it."""


class RoleRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Which images of an enrolled binary are the agent's main process: decided at exec, from the record."""

    argv0_names: tuple[str, ...]
    """Accepted base names of argv[0]; anything else with the same hash (``rg``) is not the agent. One with a slash is
    compared with the whole: Python finds its libraries by it."""
    runtimes: tuple[str, ...] = ("loader", "bun")
    """Who reads its environment at start (identity.environment): a variable of another runtime changes nothing."""
    interpreter_options: tuple[str, ...] = ()
    """Of an interpreted agent: regular expressions; an option before the script that matches none makes it nobody."""
    required_options: tuple[str, ...] = ()
    """Regular expressions; without an option before the script that matches each of them it is nobody."""
    refused_arguments: tuple[str, ...] = ()
    """Subcommands that make it another program, which works for whoever asks; anywhere among the arguments. One that
    ends in ``*`` stands for all that begin like it."""
    leading_options: tuple[str, ...] | None = None
    """Regular expressions: an option before the first word that is none, and that matches no expression, makes it
    another program (``docker --host``). None: any may stand there."""
    lines: tuple[str, ...] | None = None
    """Regular expressions: all arguments, a NUL between each and the next, must match one as a whole; with others it is
    another program, which prints what it has or runs what it is given. None: any may stand there."""
    home: str = ""
    """Its user's: it finds its settings there, so another HOME taints it. Empty: any."""


class Outside(Struct, frozen=True, forbid_unknown_fields=True):
    """Where an interpreter looks for the modules that a package asks for and does not hold (identity.wanted)."""

    modules: tuple[str, ...]
    """Their names; those that were there when it was enrolled are not among them."""
    folders: tuple[str, ...]
    home: str
    """Of the user: with another HOME it looks elsewhere."""


class Bundle(Struct, frozen=True, forbid_unknown_fields=True):
    """All files of an interpreted agent's package."""

    root: str
    """The package's folder, resolved."""
    digest: Sha256
    """identity.bundle: over every name, mode, link target and content below the root."""
    files: int
    size_bytes: int
    outside: Outside | None = None
    """None: its interpreter looks for modules in the package only."""


class EnrolledScript(Struct, frozen=True, forbid_unknown_fields=True):
    """What an interpreter must have been started with to be the agent."""

    path: str
    """Resolved; lies in the bundle."""
    sha256: Sha256
    bundle: Bundle


class EnrolledBinary(Struct, frozen=True, forbid_unknown_fields=True):
    """One executable file that is the agent, or its interpreter."""

    path: str
    """Where it was found, resolved; the monitor opens it there to learn the kernel's numbers for it."""
    sha256: Sha256
    size_bytes: int
    script: EnrolledScript | None = None
    """Of an interpreter: with any other script it is nobody."""
    launchers: tuple[str, ...] = ()
    """Links by which it was found (``~/.local/bin/claude``): where an update of it appears. They identify nothing."""
    package: str = ""
    """Of the distribution: any intact version of it at this path is as good (identity.distribution). Empty: none."""


class Allowance(Struct, frozen=True, forbid_unknown_fields=True):
    """A variable that would taint, and does not with exactly this value: the user's own set-up needs it."""

    name: str
    value_sha256: Sha256


class Approval(Struct, frozen=True, forbid_unknown_fields=True):
    """A file that was enrolled, now or before: the history of an enrolment, oldest first."""

    path: str
    sha256: Sha256
    size_bytes: int
    version: str
    """As the vendor's own files say; empty if they don't."""
    approved_ns: int
    """CLOCK_REALTIME."""
    how: str
    """``enroll``, ``approve``, ``own-updater`` or ``root-package-manager``."""


class DecoyFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the user's that now holds a decoy."""

    path: str
    kind: str
    """``claude-oauth``; names the maker of the decoy's value."""
    deny: bool = False
    """True: others are refused the open (EPERM) where the tier can; False: they are served the decoy."""
    values_sha256: tuple[Sha256, ...] = ()
    """Of each value in it that a thief would present somewhere; none if it was enrolled before these were kept."""
    shared: bool = False
    """Other programs of the owner's read such a file: who may by the catalogue of credential paths is no thief."""


SettingsFormat = Literal["json", "toml", "env", "yaml"]
"""How an agent's settings are written."""


class SettingsFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A settings file of the agent's: it decides what the agent runs, and whom it believes."""

    path: str
    """Absolute."""
    format: SettingsFormat
    hot: bool = False
    """The agent writes it all the time: only what decides what it runs, or whom it trusts, is worth telling."""


class Account(Struct, frozen=True, forbid_unknown_fields=True):
    """One of several credentials of an agent, by a name of the operator's (grant.accounts)."""

    name: str
    credential: CredentialId
    folders: tuple[str, ...] = ()
    """Absolute, as the kernel names them: an agent that is started in one of them, or below, uses this account."""
    policy_sha256: Sha256 | None = None
    """Of the rule that was written for it; None: the enrolment's own rule is its rule."""


class Serving(Struct, frozen=True, forbid_unknown_fields=True):
    """How an enrolled tool asks (identity.tool)."""

    shim: str
    """Path of the shim, without links: root's own, and writable by nobody else. Empty: the tool asks itself (ssh)."""
    commands: tuple[str, ...] = ()
    """What a shell of the distribution may have been given (``sh -c COMMAND``) between the tool and the shim; none:
    the tool starts the shim itself."""


class Enrollment(Struct, frozen=True, forbid_unknown_fields=True):
    """One agent of one user, or one tool (registry/tools)."""

    agent: AgentName
    owner_uid: Uid
    owner_name: str
    binaries: tuple[EnrolledBinary, ...]
    role: RoleRule
    decoys: tuple[DecoyFile, ...]
    credentials: tuple[CredentialId, ...]
    enrolled_ns: int
    """CLOCK_REALTIME."""
    allowed_environment: tuple[Allowance, ...] = ()
    history: tuple[Approval, ...] = ()
    settings: tuple[SettingsFile, ...] = ()
    """Whose changes by others are told (monitor.settings_watch); none in records of older versions."""
    accounts: tuple[Account, ...] = ()
    """None: there is one credential, and it has no name. Else the enrolled one's is the first."""
    serving: Serving | None = None
    """None: an agent."""
    format: int = 1

    @property
    def file_name(self) -> str:
        """The name of its file in the registry."""
        return f"{self.agent}-{self.owner_uid}.json"


def load_registry(folder: Path) -> tuple[Enrollment, ...]:
    """Return all enrolments of a registry folder, ordered by file name; none if the folder does not exist.

    Raises:
        IntegrityError: a file (or the folder) that others than root could have written.
        MisuseError: a file that is not an enrolment, with the failing field's path.
    """
    if not folder.is_dir():
        return ()
    require_root_owned(folder, folder.lstat())
    return tuple(_load(path) for path in sorted(folder.glob("*.json")))


def load_registries(folders: Iterable[Path]) -> tuple[Enrollment, ...]:
    """Return all enrolments of several folders: of agents, and of tools. Raises as ``load_registry``."""
    return tuple(each for folder in folders for each in load_registry(folder))


def save_enrollment(folder: Path, enrollment: Enrollment) -> None:
    """Write one enrolment durably: a reader sees the old file or the new one.

    Raises:
        UnavailableError: the disk refuses.
    """
    save_record(folder / enrollment.file_name, enrollment)


def remove_enrollment(folder: Path, enrollment: Enrollment) -> None:
    """Delete one enrolment durably; a missing file is fine."""
    remove_record(folder / enrollment.file_name)


def _load(path: Path) -> Enrollment:
    return load_record(path, Enrollment, "an enrolment", "enroll the agent again")
