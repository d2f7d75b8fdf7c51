"""Put a decoy into a user's file: seen first, agreed to, journalled, and undone if anything fails on the way.

1. Lock, and look again: a file that differs from the plan stops here, with nothing changed.
2. Journal ``planting``. Folders that are missing are made; the new file is staged beside the old one, exchanged with
   it, and the old one deleted: nothing is watched yet, so none of this raises an alert.
3. The registry (the decoy counts from here); the monitor and the broker read it.
4. Journal ``planted``.

Everything that touches the home runs as the user. A kill leaves the journal; ``recover`` finishes or undoes it.
"""

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from agent_broker.clock import Clock
from agent_broker.enroll.file_state import Expected, sha256_of
from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plan import version_of
from agent_broker.enroll.plant_entry import with_honeytoken
from agent_broker.enroll.plant_journal import PlantJournal, PlantTransaction
from agent_broker.enroll.plant_restore import PlantOutcome, restore
from agent_broker.enroll.ports import Watch
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError
from agent_broker.honeytoken.entry import Honeytoken
from agent_broker.honeytoken.kinds import Kind
from agent_broker.honeytoken.presented import digests_of
from agent_broker.identity.planted import PlantedDecoy, load_planted, save_planted
from agent_broker.identity.registry import load_registries

NEW_FILE_MODE = 0o600
NEVER = 0
"""As ``lifetime_ns``: the decoy does not expire."""


def _no_step(_: str) -> None:
    return


@dataclass(frozen=True)
class Garden:
    """Where and with what decoys are planted."""

    watch: Watch
    journal_dir: Path
    """Of the enrolments; the decoys' own lies in it."""
    registries: tuple[Path, ...]
    decoys_dir: Path
    clock: Clock
    on_step: Callable[[str], None] = _no_step
    """Called after each step with its name: for progress, and for tests that stop there."""

    def journal(self) -> PlantJournal:
        """Return the journals; the lock must be held."""
        return PlantJournal(self.journal_dir / "decoys")


@dataclass(frozen=True)
class PlantPlan:
    """What a person is asked to agree to."""

    kind: Kind
    owner: Owner
    path: str
    """Relative to the home."""
    version: Expected | None
    """Of the file as it was seen; None: it is missing."""
    folders: tuple[str, ...]
    """Folders that will be made, outermost first."""
    token: Honeytoken = field(repr=False)
    deny: bool
    lifetime_ns: int
    route: str

    @property
    def absolute(self) -> str:
        """The path, for people and for the registry."""
        return f"{self.owner.home.rstrip('/')}/{self.path}"

    @property
    def holds_more(self) -> bool:
        """Whether the file holds something of the user's too."""
        return self.version is not None and self.version.state.size_bytes > 0

    @property
    def shared(self) -> bool:
        """Whether the owner's own tools open the file."""
        return self.holds_more or (self.kind.tool_reads and self.path == self.kind.default_path)


def relative_path(path: str, owner: Owner) -> str:
    """Return a path relative to the owner's home; one that is relative already starts there.

    Raises:
        MisuseError: it lies elsewhere, or is not one that can be written down.
    """
    home = owner.home.rstrip("/") + "/"
    inner = path.removeprefix(home)
    pure = PurePosixPath(inner)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise MisuseError(f"the path does not lie in the home {owner.home}", next_step="name a file there")
    if not inner.isprintable():  # control characters, and bytes that are not UTF-8
        raise MisuseError("the path holds characters that can't be shown", next_step="choose another name")
    return str(pure)


def plan_planting(  # noqa: PLR0913 - what the operator can say, named arguments only
    kind: Kind,
    owner: Owner,
    garden: Garden,
    *,
    path: str = "",
    deny: bool = False,
    lifetime_ns: int = NEVER,
    route: str = "planted: decoy plant",
) -> PlantPlan:
    """Look, make the value, change nothing.

    Raises:
        MisuseError: there is a decoy already; the file can't be touched, or merged into, safely.
        UnavailableError: the process that acts as the user does not answer.
    """
    place = relative_path(path or kind.default_path, owner)
    _require_no_decoy(f"{owner.home.rstrip('/')}/{place}", garden)
    with UserFiles(owner) as files:
        folders = missing_folders(files, place)
        content = None if folders else files.read(place)
    _require_keys(kind, content)
    token = kind.make(content is None)
    with_honeytoken(content.data if content else None, token)
    plan = PlantPlan(kind, owner, place, version_of(content), folders, token, deny, lifetime_ns, route)
    if deny and plan.shared:
        raise MisuseError(
            f"{plan.absolute} is opened by the user's own tools, which would be denied it too",
            next_step="leave --deny out, or name a file with PATH that no tool opens by itself",
        )
    return plan


def missing_folders(files: UserFiles, place: str) -> tuple[str, ...]:
    """Return the folders on the way to a file that do not exist, outermost first.

    Raises:
        UnsafeFileError: the folder that exists is not one that can be written into.
    """
    missing: list[str] = []
    for parent in PurePosixPath(place).parents:
        if str(parent) == "." or files.look(str(parent)) is not None:
            files.check_folder(str(parent))
            break
        missing.insert(0, str(parent))
    return tuple(missing)


def plant(plan: PlantPlan, garden: Garden) -> PlantOutcome:
    """Plant the decoy, or change nothing.

    Raises:
        MisuseError: the file is not as it was planned; there is a decoy by now.
        UnavailableError: another transaction is at work; the monitor or the disk did not do its part.
        IntegrityError: it failed, and could not be undone either: ``recover`` will.
    """
    with TransactionFolder(garden.journal_dir) as lock, UserFiles(plan.owner, (lock.lock_fd,)) as files:
        return plant_locked(plan, garden, files, lock.lock_fd)


def plant_locked(plan: PlantPlan, garden: Garden, files: UserFiles, lock_fd: int) -> PlantOutcome:
    """Do ``plant`` while the lock is held already; ``files`` is closed if it fails."""
    journal = garden.journal()
    found = journal.find(plan.absolute)
    if found is not None and found.state == "planting":
        raise MisuseError(f"{plan.absolute} was left half-way", next_step="agent-broker decoy recover")
    _require_no_decoy(plan.absolute, garden)
    content = None if plan.folders else files.read(plan.path)
    if version_of(content) != plan.version:
        raise MisuseError(f"{plan.absolute} has changed since the plan was made", next_step="plant again")
    data, transaction = _design(plan, content, garden)
    try:
        return _carry_out(transaction, data, plan.version, garden, files)
    except (Exception, KeyboardInterrupt) as error:
        files.close()
        _undo_after(error, transaction, garden, lock_fd)
        raise


def _design(plan: PlantPlan, content: Content | None, garden: Garden) -> tuple[bytes, PlantTransaction]:
    data, added = with_honeytoken(content.data if content else None, plan.token)
    now_ns = garden.clock.wall_ns()
    decoy = PlantedDecoy(
        path=plan.absolute,
        kind=plan.kind.name,
        owner_uid=plan.owner.uid,
        owner_name=plan.owner.name,
        route=plan.route,
        planted_ns=now_ns,
        expires_ns=now_ns + plan.lifetime_ns if plan.lifetime_ns else NEVER,
        values_sha256=digests_of(plan.token.values),
        deny=plan.deny,
        shared=plan.shared,
    )
    return data, PlantTransaction(
        id=secrets.token_hex(6),
        state="planting",
        path=plan.path,
        owner_gid=plan.owner.gid,
        owner_groups=plan.owner.groups,
        home=plan.owner.home,
        original=content.state if content else None,
        original_sha256=sha256_of(content.data) if content else None,
        new_sha256=sha256_of(data),
        added=added,
        made_folders=plan.folders,
        decoy=decoy,
    )


def _carry_out(
    transaction: PlantTransaction, data: bytes, version: Expected | None, garden: Garden, files: UserFiles
) -> PlantOutcome:
    path, temporary, was = transaction.path, transaction.temporary("new"), transaction.original
    garden.decoys_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    garden.journal().write(transaction)
    garden.on_step("journal: planting")
    for folder in transaction.made_folders:
        files.make_folder(folder)
        garden.on_step(f"made {folder}")
    mode, gid = (was.mode, was.gid) if was else (NEW_FILE_MODE, transaction.owner_gid)
    files.stage(path, temporary=temporary, data=data, mode=mode, gid=gid)
    garden.on_step("staged")
    files.swap(path, temporary, version)
    garden.on_step("swapped")
    files.discard(path, temporary)
    garden.on_step("written")
    save_planted(garden.decoys_dir, transaction.decoy)
    garden.on_step("registered")
    answer = garden.watch.reload()
    garden.on_step("reloaded")
    garden.journal().mark_planted(transaction)
    garden.on_step("journal: planted")
    return PlantOutcome(transaction.decoy.path, transaction.decoy.kind, "planted", answer.problems)


def _undo_after(error: BaseException, transaction: PlantTransaction, garden: Garden, lock_fd: int) -> None:
    """Put everything back, with a fresh process for the files: the present one may be the reason."""
    journal = garden.journal()
    if journal.find(transaction.decoy.path) is None:
        return  # not even begun
    what = error.message if isinstance(error, AgentBrokerError) else type(error).__name__
    quiet = dataclasses.replace(garden, on_step=_no_step)
    try:
        restore(transaction, journal, quiet.decoys_dir, quiet.watch, quiet.on_step, lock_fd)
    except AgentBrokerError as second:
        raise IntegrityError(
            f"planting failed ({what}), and could not be undone yet ({second.message})",
            next_step="agent-broker decoy recover",
        ) from error


def _require_no_decoy(path: str, garden: Garden) -> None:
    """Ask before the file is read: a decoy is watched, and we are not its agent."""
    if any(each.path == path for each in load_planted(garden.decoys_dir)):
        raise MisuseError(
            f"{path} holds a decoy already", next_step=f"agent-broker decoy refresh {path}, or name another file"
        )
    for enrollment in load_registries(garden.registries):
        if any(decoy.path == path for decoy in enrollment.decoys):
            raise MisuseError(f"{path} holds the decoy of the enrolled agent {enrollment.agent}")


def _require_keys(kind: Kind, content: Content | None) -> None:
    """A file that lacks them would be read in another way once the entry is in it."""
    if content is None:
        return
    for key in kind.requires:
        if not any(
            line.startswith((f"{key}:", f'"{key}":')) for line in content.data.decode("utf-8", "replace").split("\n")
        ):
            raise MisuseError(
                f"the file names no {key}, so its tool would take the decoy's host for its default",
                next_step="name another file with PATH",
            )
