"""What enrolment would do, without doing it: read-only, and without a secret in it.

The plan is shown to a person and then applied. Applying makes the survey again and stops, with nothing changed, if
anything differs from what was planned.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agent_broker.enroll.allowances import PlannedAllowance, parse_allowances, warnings_of
from agent_broker.enroll.binaries import FoundBinary, Progress, find_binaries, running_pids
from agent_broker.enroll.file_state import Expected, KnownFolder, sha256_of
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.profile import all_exports
from agent_broker.enroll.program import find_programs
from agent_broker.enroll.recipe import FoundSecret, Recipe, Row, Survey
from agent_broker.enroll.session import session_exports
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.identity.registry import ONLY_ACCOUNT, Allowance, DecoyFile, RoleRule, Serving, load_registry
from agent_broker.ids import AgentName, CredentialId, Uid

_GROWTH_BYTES = 16 * 1024  # a wired file is longer than it was by an address, a token and a decoy


class EnrolledAlreadyError(MisuseError):
    """The agent is enrolled: there is nothing to plan."""


@dataclass(frozen=True)
class PlannedFile:
    """A file that will be changed."""

    path: str
    """Relative to the home."""
    version: Expected | None
    """As it was seen; None: it was missing and will be made."""


@dataclass(frozen=True)
class PlannedCredential:
    """A secret that will move."""

    id: CredentialId
    kind: str
    file: str
    place: str
    """Its member in the file: ``env.ANTHROPIC_API_KEY``."""


@dataclass(frozen=True)
class ToolPart:
    """What the enrolment of a tool has, and that of an agent has not."""

    serving: Serving
    policy: bytes
    """The rules that are written, if there are none of this name yet."""
    allowed: tuple[Allowance, ...] = ()
    """Variables that the tool sets for its own parts: with exactly these values they are no taint."""
    role: RoleRule | None = None
    """What the recipe's role became with the programs that were found; None: it stays the recipe's."""


@dataclass(frozen=True)
class Plan:
    """What a person is asked to agree to."""

    recipe: Recipe
    owner: Owner
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    files: tuple[PlannedFile, ...]
    credentials: tuple[PlannedCredential, ...]
    active: CredentialId
    """What the agent will use through the broker."""
    binaries: tuple[FoundBinary, ...]
    decoys: tuple[DecoyFile, ...]
    running: tuple[int, ...] = ()
    """Processes of the owner that run the agent now: they hold the old secret, and may write the files."""
    allowed: tuple[PlannedAllowance, ...] = ()
    """Variables that will not taint the agent."""
    movable: tuple[str, ...] = ()
    """Variables that profiles set, which move if their owner agrees; see Survey."""
    account: str = ONLY_ACCOUNT
    """What the active credential's account is called."""
    folders: tuple[KnownFolder, ...] = ()
    """In which files will be changed."""
    tool: ToolPart | None = None
    """None: an agent."""

    @property
    def agent(self) -> AgentName:
        """The agent's name."""
        return self.recipe.agent

    @property
    def role(self) -> RoleRule:
        """Which images are the main process: as the recipe says, or else as its script must be started."""
        if self.tool is not None and self.tool.role is not None:
            return self.tool.role
        by_program = self.binaries[0].role
        return self.recipe.role if self.recipe.role.argv0_names or by_program is None else by_program


def make_plan(  # noqa: PLR0913 - what the operator can say, named arguments only
    recipe: Recipe,
    owner: Owner,
    *,
    registry_dir: Path,
    binaries: Iterable[Path] = (),
    search_path: Iterable[Path] = (),
    deny_decoys: bool = False,
    allow_env: Iterable[str] = (),
    progress: Progress | None = None,
    planted: Iterable[PlantedDecoy] = (),
) -> Plan:
    """Look at everything, change nothing.

    Args:
        recipe: the kind of agent.
        owner: whose.
        registry_dir: the enrolments; the agent must not be among them.
        binaries: the agent's executables; none: they are searched.
        search_path: folders to search first, the PATH of whoever asks.
        deny_decoys: refuse others the decoy instead of serving it, where the tier can.
        allow_env: ``NAME=VALUE`` each, see parse_allowances.
        progress: told how far the hash of an executable is.
        planted: decoys that are no enrolment's.

    Raises:
        MisuseError: an allowance that can't be; enrolled already; an unsafe file; no credential; no executable.
        IntegrityError: an executable that changes while it is hashed.
        UnavailableError: the process that acts as the user does not answer.
    """
    allowed = parse_allowances(allow_env, recipe.agent, recipe.role.runtimes)
    _require_not_enrolled(registry_dir, planted, recipe.agent, owner)
    survey, folders, refused = _look(recipe, owner, allowed)
    found, others, noted = _programs_of(recipe, owner, (binaries, tuple(search_path)), progress)
    running = running_pids(found, owner.uid)
    return Plan(
        recipe=recipe,
        owner=owner,
        rows=survey.rows,
        warnings=(*survey.warnings, *refused, *noted, *_warnings_of(found, others, running)),
        files=planned_files(survey),
        credentials=tuple(_planned(secret, recipe.agent, owner) for secret in survey.secrets),
        active=credential_id(recipe.agent, owner.uid, survey.active),
        binaries=found,
        decoys=_decoys(survey, owner, deny=deny_decoys),
        running=running,
        allowed=allowed,
        movable=survey.movable,
        folders=folders,
    )


def _programs_of(
    recipe: Recipe, owner: Owner, where: tuple[Iterable[Path], tuple[Path, ...]], progress: Progress | None
) -> tuple[tuple[FoundBinary, ...], tuple[str, ...], tuple[str, ...]]:
    """Return what is enrolled, what else was found, and warnings; ``where``: what was named, and the search path."""
    named, search_path = where
    given = [recipe.executable_of(path) for path in named]
    candidates = recipe.binary_candidates(owner, search_path)
    if recipe.is_script:
        return find_programs(given, candidates, owner, search_path, progress)
    return (*find_binaries(given, candidates, owner, progress), ())


def _look(
    recipe: Recipe, owner: Owner, allowed: tuple[PlannedAllowance, ...]
) -> tuple[Survey, tuple[KnownFolder, ...], tuple[str, ...]]:
    """Survey the home; warn of what is set there, or in the session, that the agent would be refused for."""
    with UserFiles(owner) as files:
        survey = recipe.survey(files, owner)
        folders = planned_folders(survey, files)
        rehearse(survey, files, owner)
        exports = (*all_exports(files), *session_exports(owner.uid))
    return survey, folders, tuple(warnings_of(exports, recipe.agent, recipe.role.runtimes, allowed))


def planned_files(survey: Survey) -> tuple[PlannedFile, ...]:
    """Return the versions of the files that a survey was made from."""
    return tuple(PlannedFile(file.path, version_of(file.content)) for file in survey.files)


def planned_folders(survey: Survey, files: UserFiles) -> tuple[KnownFolder, ...]:
    """Return the folders that a survey's files are in, and the home: those that are there."""
    paths = sorted({".", *(str(PurePosixPath(file.path).parent) for file in survey.files)})
    seen = [(path, files.look(path)) for path in paths]
    return tuple(KnownFolder(path, state.dev, state.ino) for path, state in seen if state is not None)


def rehearse(survey: Survey, files: UserFiles, owner: Owner) -> None:
    """Make sure that every file of a survey could be replaced, before anything is touched.

    Raises:
        UnsafeFileError, UnavailableError: see UserFiles.rehearse.
    """
    for file in survey.files:
        size_bytes = len(file.content.data) if file.content is not None else 0
        files.rehearse(file.path, size_bytes + _GROWTH_BYTES, owner.gid)


def version_of(content: Content | None) -> Expected | None:
    """Return what identifies a version of a file; None for a missing one."""
    return None if content is None else Expected(content.state, sha256_of(content.data))


def credential_id(agent: AgentName, owner_uid: Uid, name: str) -> CredentialId:
    """Return the id of a credential."""
    return CredentialId(f"{agent}/{owner_uid}/{name}")


def _require_not_enrolled(registry_dir: Path, planted: Iterable[PlantedDecoy], agent: AgentName, owner: Owner) -> None:
    """Ask before anything is read: the decoy of an enrolled agent is watched, and we are not the agent."""
    for enrollment in load_registry(registry_dir):
        if (enrollment.agent, enrollment.owner_uid) == (agent, owner.uid):
            raise EnrolledAlreadyError(
                f"{agent} of user {owner.name} is enrolled already",
                next_step=f"to enroll again: agent-broker unenroll {agent} --user {owner.name} first",
            )
    for decoy in planted:
        if decoy.path.startswith(f"{owner.home.rstrip('/')}/.{agent}"):  # it would be taken for the user's own login
            raise MisuseError(
                f"{decoy.path} holds a planted decoy; the enrolment puts its own there",
                next_step=f"agent-broker decoy remove {decoy.path}",
            )


def _decoys(survey: Survey, owner: Owner, *, deny: bool) -> tuple[DecoyFile, ...]:
    home = owner.home.rstrip("/")
    return tuple(DecoyFile(f"{home}/{decoy.path}", decoy.kind, deny, shared=decoy.shared) for decoy in survey.decoys)


def _planned(secret: FoundSecret, agent: AgentName, owner: Owner) -> PlannedCredential:
    file = f"{owner.home.rstrip('/')}/{secret.file}"
    return PlannedCredential(credential_id(agent, owner.uid, secret.name), secret.kind, file, secret.place)


def _warnings_of(found: tuple[FoundBinary, ...], others: tuple[str, ...], running: tuple[int, ...]) -> Iterator[str]:
    for binary in found:
        if binary.writable_by_owner:
            enrolled = binary.enrolled
            place = enrolled.path if enrolled.script is None else enrolled.script.path
            yield f"{place} can be replaced by the user; after an update of the agent, approve it"
    for other in others:
        yield f"{other} is not enrolled: if that is what you start, name it with --binary"
    if running:
        yield f"the agent runs now (pid {', '.join(map(str, running))}): restart it after the enrolment"
