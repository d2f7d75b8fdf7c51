"""Which values are decoys': digests of them, from the registry of enrolments and that of planted decoys."""

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.planted import PlantedDecoy, load_planted
from agent_broker.identity.registry import Enrollment
from agent_broker.identity.viewed import ViewedFile
from agent_broker.ids import AgentName, Sha256, Uid


class KnownDecoy(Struct, frozen=True):
    """Where a value was planted."""

    path: str
    kind: str
    owner_uid: Uid
    agent: AgentName | None
    """The enrolled agent whose file it is; None: it was planted by hand."""


class DecoyBook:
    """Digest of a value to its decoy; ``reload`` swaps the whole content at once. Never holds a value."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[Sha256, KnownDecoy] = {}

    def reload(self, enrollments: Iterable[Enrollment], files: Iterable[ViewedFile] = ()) -> None:
        """Take the decoys of these and of these views, and read the planted ones again.

        The former content stays if one of them is broken.

        Raises:
            IntegrityError, MisuseError: see load_planted.
            UnavailableError: the folder is not the broker's group's to read.
        """
        entries: dict[Sha256, KnownDecoy] = {}
        for enrollment in enrollments:
            for file in enrollment.decoys:
                known = KnownDecoy(file.path, file.kind, enrollment.owner_uid, enrollment.agent)
                entries.update(dict.fromkeys(file.values_sha256, known))
        for viewed in files:
            known = KnownDecoy(viewed.absolute, "viewed-file", viewed.owner_uid, None)
            entries.update(dict.fromkeys(viewed.decoy_sha256, known))
        for decoy in self._planted():
            known = KnownDecoy(decoy.path, decoy.kind, decoy.owner_uid, None)
            entries.update(dict.fromkeys(decoy.values_sha256, known))
        self._entries = entries

    def _planted(self) -> tuple[PlantedDecoy, ...]:
        try:
            return load_planted(self._folder)
        except OSError as error:
            raise UnavailableError(
                f"{self._folder} can't be read: {error.strerror}", next_step="restart the broker, which sets it right"
            ) from error

    def find(self, value: str) -> KnownDecoy | None:
        """Return the decoy that has this value; a look-up by digest, so its duration tells nothing of any value."""
        return self._entries.get(digest_of(value)) if self._entries else None
