"""The files that are views, as root wrote them down: read by the broker, the monitor and the command line.

One JSON file a view in ``registry/files``, owned by root and writable by root alone; it never holds a value.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_broker.disk import require_root_owned
from agent_broker.identity.records import load_record, remove_record, save_record
from agent_broker.ids import AgentName, CredentialId, Sha256, Uid

PREFIX: Final = "file."
"""Of the name of each: no agent and no tool is called so."""


class ViewedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a user's whose place is a link into the view."""

    name: AgentName
    """``file.config.gh.hosts.yml``: by it policy, vault and journals know it."""
    owner_uid: Uid
    owner_gid: int
    owner_name: str
    home: str
    path: str
    """Relative to the home: where the link is."""
    readers: tuple[AgentName, ...]
    """Enrolled agents and tools whose own process is served the real content, if a rule lets it."""
    programs: tuple[AgentName, ...] = ()
    """Those of the readers that were enrolled for views only."""
    decoy_sha256: tuple[Sha256, ...] = ()
    """Of each value of the decoy that a thief would present somewhere."""
    enrolled_ns: int = 0
    """CLOCK_REALTIME."""
    format: int = 1

    @property
    def folder(self) -> str:
        """The name of its folder in its owner's folder of the view."""
        return self.name.removeprefix(PREFIX)

    @property
    def base(self) -> str:
        """Its own name."""
        return self.path.rpartition("/")[2]

    @property
    def absolute(self) -> str:
        """Where the link is."""
        return f"{self.home.rstrip('/')}/{self.path}"

    @property
    def content_id(self) -> CredentialId:
        """Of the real content, in the vault."""
        return CredentialId(f"{self.name}/{self.owner_uid}/content")

    @property
    def decoy_id(self) -> CredentialId:
        """Of the decoy, in the vault."""
        return CredentialId(f"{self.name}/{self.owner_uid}/decoy")

    @property
    def file_name(self) -> str:
        """The name of its file in the registry."""
        return f"{self.name}-{self.owner_uid}.json"

    def target(self, view_folder: Path) -> str:
        """Return where the link leads."""
        return str(view_folder / str(self.owner_uid) / self.folder / self.base)


def load_viewed(folder: Path) -> tuple[ViewedFile, ...]:
    """Return all views of a registry folder, ordered by file name; none if the folder does not exist.

    Raises:
        IntegrityError: a file (or the folder) that others than root could have written.
        MisuseError: a file that is not such a record, with the failing field's path.
    """
    if not folder.is_dir():
        return ()
    require_root_owned(folder, folder.lstat())
    return tuple(_load(path) for path in sorted(folder.glob("*.json")))


def save_viewed(folder: Path, viewed: ViewedFile) -> None:
    """Write one record durably: a reader sees the old file or the new one.

    Raises:
        UnavailableError: the disk refuses.
    """
    save_record(folder / viewed.file_name, viewed)


def remove_viewed(folder: Path, viewed: ViewedFile) -> None:
    """Delete one record durably; a missing file is fine."""
    remove_record(folder / viewed.file_name)


def _load(path: Path) -> ViewedFile:
    return load_record(path, ViewedFile, "a view", "enroll the file again")
