"""What is written down of a file's enrolment before anything is changed, so that a kill at any step can be undone.

The states, in their order. ``sealing``: the vault is being filled, the file was not touched. ``linking``: registered,
and the link takes the file's place. ``enrolled``. ``restoring``: the file is being put back. ``emptying``: it is back,
durably, and the vault's records go. No content is in the journal: that is in the vault.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file, sync_folder
from agent_broker.enroll.file_state import FileState
from agent_broker.enroll.owner import Owner
from agent_broker.errors import IntegrityError
from agent_broker.identity.viewed import ViewedFile
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid

State = Literal["sealing", "linking", "enrolled", "restoring", "emptying"]


class ViewTransaction(Struct, frozen=True, forbid_unknown_fields=True):
    """One file's enrolment, from its first step until it is undone."""

    id: str
    """Random; part of the names of temporary files."""
    state: State
    viewed: ViewedFile
    owner_groups: tuple[int, ...]
    original: FileState
    original_sha256: Sha256
    target: str
    has_attributes: bool
    policy_sha256: Sha256 | None = None
    format: int = 1

    @property
    def owner(self) -> Owner:
        """The user."""
        viewed = self.viewed
        return Owner(viewed.owner_uid, viewed.owner_gid, self.owner_groups, viewed.owner_name, viewed.home)

    @property
    def attributes_id(self) -> CredentialId:
        """Of the file's extended attributes, in the vault."""
        return CredentialId(f"{self.viewed.name}/{self.viewed.owner_uid}/attributes")

    def temporary(self, purpose: Literal["new", "old"]) -> str:
        """Return the name of the temporary file beside the file."""
        return f".{self.viewed.base.lstrip('.')}.agent-broker-{self.id}-{purpose}"


class ViewJournal:
    """The journals of views; whoever uses it holds the lock of TransactionFolder."""

    def __init__(self, folder: Path) -> None:
        """``folder``: that of all journals."""
        self._folder = folder / "files"

    def find(self, name: AgentName, owner_uid: Uid) -> ViewTransaction | None:
        """Return one file's transaction, or None. Raises as ``all``."""
        return next(
            (each for each in self.all() if (each.viewed.name, each.viewed.owner_uid) == (name, owner_uid)), None
        )

    def all(self) -> Iterator[ViewTransaction]:
        """Yield all transactions, ordered by file name.

        Raises:
            IntegrityError: a journal can't be understood.
        """
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=ViewTransaction)
            except msgspec.DecodeError as error:
                raise IntegrityError(
                    f"the journal {path} can't be understood: {error}",
                    next_step="restore it from a backup; the file's content is in the vault",
                ) from error

    def write(self, transaction: ViewTransaction) -> ViewTransaction:
        """Write one down; it is durable when this returns.

        Raises:
            UnavailableError: the disk refused; what was written before stands.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path(transaction), msgspec.json.format(msgspec.json.encode(transaction), indent=1))
        return transaction

    def forget(self, transaction: ViewTransaction) -> None:
        """Delete one; it is durable when this returns."""
        self._path(transaction).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _path(self, transaction: ViewTransaction) -> Path:
        return self._folder / transaction.viewed.file_name
