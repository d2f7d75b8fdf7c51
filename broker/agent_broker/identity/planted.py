"""The decoys that an operator planted, as root wrote them down: read by monitor and broker, written by enroll.

One JSON file a decoy in ``registry/decoys``, owned by root and writable by root alone; it never holds a value.
"""

import hashlib
from pathlib import Path

from msgspec import Struct

from agent_broker.disk import require_root_owned
from agent_broker.identity.records import load_record, remove_record, save_record
from agent_broker.ids import Sha256, Uid


class PlantedDecoy(Struct, frozen=True, forbid_unknown_fields=True):
    """One file that holds a decoy which belongs to no enrolment."""

    path: str
    kind: str
    """Names the maker of the decoy's value: ``aws-profile``."""
    owner_uid: Uid
    owner_name: str
    route: str
    """How the decoy came there: ``planted``, and by which command of the operator."""
    planted_ns: int
    """CLOCK_REALTIME, as the next."""
    expires_ns: int
    """When it is to be renewed (``decoy refresh``); 0: never."""
    values_sha256: tuple[Sha256, ...] = ()
    """Of each value in it that a thief would present somewhere."""
    deny: bool = False
    """True: others are refused the open (EPERM) where the tier can; False: they are served the decoy."""
    shared: bool = False
    """True: the owner's own tools open the file; it holds entries of theirs too, or lies where a tool always looks."""
    format: int = 1

    @property
    def file_name(self) -> str:
        """The name of its file in the registry."""
        return f"{hashlib.sha256(self.path.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"


def load_planted(folder: Path) -> tuple[PlantedDecoy, ...]:
    """Return all planted decoys of a registry folder, ordered by path; none if the folder does not exist.

    Raises:
        IntegrityError: a file (or the folder) that others than root could have written.
        MisuseError: a file that is not such a record, with the failing field's path.
        PermissionError: it is not for this user to read.
    """
    if not folder.is_dir():
        return ()
    require_root_owned(folder, folder.lstat())
    names = [path for path in folder.iterdir() if path.match("*.json") and not path.name.startswith(".")]
    return tuple(sorted(map(_load, names), key=lambda each: each.path))


def save_planted(folder: Path, decoy: PlantedDecoy) -> None:
    """Write one record durably: a reader sees the old file or the new one.

    Raises:
        UnavailableError: the disk refuses.
    """
    save_record(folder / decoy.file_name, decoy)


def remove_planted(folder: Path, decoy: PlantedDecoy) -> None:
    """Delete one record durably; a missing file is fine."""
    remove_record(folder / decoy.file_name)


def _load(path: Path) -> PlantedDecoy:
    return load_record(path, PlantedDecoy, "a planted decoy", "plant the decoy again")
