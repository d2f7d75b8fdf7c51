"""What is written down before anything is changed, so that a kill at any step can be undone.

The journal holds paths, attributes and digests, never content: the bytes of the files are in the vault. One file a
transaction, in a folder that only root can enter; the folder's lock lets one transaction at a time work.

States, in their order. ``sealing``: the vault is being filled, no file was touched. ``rewriting``: the files are
being changed. ``enrolled``. ``restoring``: the files are being put back. ``emptying``: they are back, durably, and
the vault's records go.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file, sweep, sync_folder
from agent_broker.enroll.file_state import FileState
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import Format
from agent_broker.enroll.recipe import Form
from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid

LOCK_WAIT_NS = 1_000_000_000
_LOCK_POLL_S = 0.02

State = Literal["sealing", "rewriting", "enrolled", "restoring", "emptying"]


class EditRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One member that was changed."""

    path: tuple[str, ...]
    sha256: Sha256 | None
    """Of the value that was put there, as canonical JSON; None: the member was removed."""
    follows: tuple[str, ...] | None = None
    """Another member; this one is ours only as long as that one holds what we put there."""


class FileRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One file that was, or is about to be, changed."""

    path: str
    """Relative to the home."""
    original: FileState | None
    """As it was; None: it was missing."""
    original_sha256: Sha256 | None
    original_id: CredentialId | None
    """Its bytes in the vault."""
    put_back: bool
    attributes_id: CredentialId | None = None
    """Its extended attributes in the vault; None: it had none."""
    edits: tuple[EditRecord, ...] = ()
    made_objects: tuple[tuple[str, ...], ...] = ()
    """Objects that the edits made, outermost first."""
    new_sha256: Sha256 | None = None
    """Of the file as rewritten; None while sealing."""
    format: Format = "json"
    """How it is written; journals of older versions knew JSON only."""


class MovedSecret(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a credential of the vault's was."""

    id: CredentialId
    file: str
    path: tuple[str, ...]
    form: Form


class Transaction(Struct, frozen=True, forbid_unknown_fields=True):
    """One enrolment, from its first step until it is undone."""

    id: str
    """Random; part of the names of temporary files."""
    state: State
    agent: AgentName
    owner_uid: Uid
    owner_gid: int
    owner_groups: tuple[int, ...]
    owner_name: str
    home: str
    started_ns: int
    """CLOCK_REALTIME."""
    files: tuple[FileRecord, ...]
    moved: tuple[MovedSecret, ...]
    policy_sha256: Sha256 | None = None
    """Of the policy file that was written; None: the operator's own was there, or none was written yet."""
    links: tuple[str, ...] = ()
    """Of root's, beside the shim (enroll.helper_links)."""
    format: int = 1

    @property
    def owner(self) -> Owner:
        """The user."""
        return Owner(self.owner_uid, self.owner_gid, self.owner_groups, self.owner_name, self.home)

    def temporary(self, path: str, purpose: Literal["new", "old"]) -> str:
        """Return the name of the temporary file beside ``path``: ``new`` to enroll, ``old`` to restore."""
        return f".{Path(path).name.lstrip('.')}.agent-broker-{self.id}-{purpose}"


class TransactionFolder:
    """The journals, locked. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Say where; nothing is touched yet."""
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> Self:
        """Make the folder if need be, and lock it.

        Raises:
            UnavailableError: another transaction is at work.
            IntegrityError: others could read or write the folder.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise UnavailableError(
                f"{self._folder} can't be opened: {error.strerror}", next_step="run it as root; check the folder"
            ) from error
        try:
            self._require_private()
            self._lock()
            sweep(self._folder, "*.json")
        except BlockingIOError as error:
            os.close(self._fd)
            raise UnavailableError(
                "another enroll or unenroll is at work",
                next_step="wait until it is done, then try again; if none is, look for a stopped agent_broker process",
            ) from error
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one work.

        Raises:
            UnavailableError: instead of an OSError that the work met.
        """
        os.close(self._fd)
        if isinstance(error, OSError):
            raise UnavailableError(
                f"the disk refused: {error.strerror} ({error.filename})", next_step="see agent-broker enroll --recover"
            ) from error

    @property
    def lock_fd(self) -> int:
        """Whoever holds this descriptor holds the lock."""
        return self._fd

    def find(self, agent: AgentName, owner_uid: Uid) -> Transaction | None:
        """Return one agent's transaction, or None.

        Raises:
            IntegrityError: its journal can't be understood.
        """
        path = self._path(agent, owner_uid)
        return self._load(path) if path.exists() else None

    def all(self) -> Iterator[Transaction]:
        """Yield all transactions, ordered by file name.

        Raises:
            IntegrityError: a journal can't be understood.
        """
        for path in sorted(self._folder.glob("*.json")):
            yield self._load(path)

    def write(self, transaction: Transaction) -> Transaction:
        """Write one down; it is durable when this returns.

        Raises:
            UnavailableError: the disk refused; what was written before stands.
        """
        path = self._path(transaction.agent, transaction.owner_uid)
        replace_file(path, msgspec.json.format(msgspec.json.encode(transaction), indent=1), mode=0o600)
        return transaction

    def forget(self, transaction: Transaction) -> None:
        """Delete one; it is durable when this returns. A missing one is fine."""
        self._path(transaction.agent, transaction.owner_uid).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _lock(self) -> None:
        """Take the lock; after a kill the process that acts as the user may hold it for a moment longer."""
        deadline_ns = time.monotonic_ns() + LOCK_WAIT_NS
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic_ns() >= deadline_ns:
                    raise
                time.sleep(_LOCK_POLL_S)
            else:
                return

    def _require_private(self) -> None:
        facts = os.fstat(self._fd)
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            raise IntegrityError(
                f"{self._folder} must be root's alone", next_step=f"inspect it, then: chmod 700 {self._folder}"
            )

    def _path(self, agent: AgentName, owner_uid: Uid) -> Path:
        return self._folder / f"{agent}-{owner_uid}.json"

    @staticmethod
    def _load(path: Path) -> Transaction:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Transaction)
        except msgspec.DecodeError as error:
            raise IntegrityError(
                f"the journal {path} can't be understood: {error}",
                next_step="restore it from a backup; the files' contents are in the vault",
            ) from error
