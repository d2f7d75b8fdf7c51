"""What is written down before a decoy goes into a user's file, so that a kill at any step can be undone.

One file a decoy, below the folder of the enrolments' journals and under its lock: enrolling and planting never work
at the same time. It holds paths, attributes, places and digests, never content: a decoy only ever adds, so what was
there before follows from what is there now.

States, in their order. ``planting``: the file is being changed. ``planted``. ``removing``: it is being put back.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file, sync_folder
from agent_broker.enroll.file_state import FileState
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plant_entry import Added
from agent_broker.errors import IntegrityError
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.ids import Sha256

PlantState = Literal["planting", "planted", "removing"]


class PlantTransaction(Struct, frozen=True, forbid_unknown_fields=True):
    """One decoy, from its first step until it is gone."""

    id: str
    """Random; part of the names of temporary files."""
    state: PlantState
    path: str
    """Relative to the home."""
    owner_gid: int
    owner_groups: tuple[int, ...]
    home: str
    original: FileState | None
    """As it was; None: it was missing."""
    original_sha256: Sha256 | None
    new_sha256: Sha256
    """Of the file with the decoy in it."""
    added: Added
    made_folders: tuple[str, ...]
    """Folders that had to be made, outermost first."""
    decoy: PlantedDecoy
    """The record in the registry."""
    format: int = 1

    @property
    def owner(self) -> Owner:
        """The user."""
        decoy = self.decoy
        return Owner(decoy.owner_uid, self.owner_gid, self.owner_groups, decoy.owner_name, self.home)

    def temporary(self, purpose: Literal["new", "old"]) -> str:
        """Return the name of the temporary file beside the decoy: ``new`` to plant, ``old`` to restore."""
        return f".{Path(self.path).name.lstrip('.')}.agent-broker-{self.id}-{purpose}"


class PlantJournal:
    """The journals of decoys. Whoever uses it holds the lock of the TransactionFolder above."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, and make it if need be.

        Raises:
            OSError: as the disk says.
        """
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def find(self, path: str) -> PlantTransaction | None:
        """Return the transaction of one absolute path, or None.

        Raises:
            IntegrityError: its journal can't be understood.
        """
        return next((each for each in self.all() if each.decoy.path == path), None)

    def all(self) -> Iterator[PlantTransaction]:
        """Yield all transactions.

        Raises:
            IntegrityError: a journal can't be understood.
        """
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=PlantTransaction)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise IntegrityError(
                    f"the journal {path} can't be understood: {error}", next_step="restore it from a backup"
                ) from error

    def write(self, transaction: PlantTransaction) -> PlantTransaction:
        """Write one down; it is durable when this returns.

        Raises:
            UnavailableError: the disk refused; what was written before stands.
        """
        data = msgspec.json.format(msgspec.json.encode(transaction), indent=1)
        replace_file(self._folder / transaction.decoy.file_name, data, mode=0o600)
        return transaction

    def forget(self, transaction: PlantTransaction) -> None:
        """Delete one; it is durable when this returns."""
        (self._folder / transaction.decoy.file_name).unlink(missing_ok=True)
        sync_folder(self._folder)

    def mark_planted(self, transaction: PlantTransaction) -> None:
        """Write down that everything is done.

        Raises:
            UnavailableError: see write.
        """
        self.write(msgspec.structs.replace(transaction, state="planted"))
