"""What a follower has told already: so that a restart tells nothing twice and leaves nothing out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file
from agent_broker.errors import UnavailableError
from agent_broker.monitor.incident import Incident

REMEMBERED: Final = 4_096  # by a process
KEPT: Final = 64  # of the last ones, in the file: an incident that grew since has left its place among the stored ones


class Told(Struct, frozen=True):
    """A revision of an incident."""

    id: str
    revision: int


class Memory:
    """Of one follower."""

    def __init__(self, path: Path) -> None:
        """Read what is kept; a file that says nothing sensible is as none."""
        self._path = path
        kept = _read(path)
        self._is_new = kept is None
        self._told = dict.fromkeys(kept or ())

    def missed(self, stored: Iterable[Incident]) -> tuple[Incident, ...]:
        """Return which of the stored incidents came after the last told one.

        A follower that was never there before begins with what comes now; if none that it told is among the stored ones
        any more, all of these came after them.

        Args:
            stored: in their newest revisions, the one that was told last at the end.

        Raises:
            UnavailableError: as ``tell``.
        """
        incidents = tuple(stored)
        if self._is_new:
            self._keep(incidents)
            return ()
        known = [place for place, each in enumerate(incidents, 1) if not self.is_new(each)]
        return incidents[max(known, default=0) :]

    def is_new(self, incident: Incident) -> bool:
        """Tell whether this revision was not told yet."""
        return _key(incident) not in self._told

    def tell(self, incident: Incident) -> None:
        """Remember that it was told, or passed over on purpose.

        Raises:
            UnavailableError: the disk refused; it is remembered for as long as this process lives.
        """
        self._keep((incident,))

    def _keep(self, incidents: Iterable[Incident]) -> None:
        self._is_new = False
        for each in incidents:
            self._told.pop(_key(each), None)
            self._told[_key(each)] = None
        while len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UnavailableError(f"{self._path.parent} can't be made: {error.strerror}") from error
        replace_file(self._path, msgspec.json.encode(tuple(self._told)[-KEPT:]))


def _read(path: Path) -> tuple[Told, ...] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Told, ...])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def state_file(environment: Mapping[str, str], home: Path) -> Path:
    """Return where a user's follower keeps it (XDG Base Directory Specification)."""
    base = Path(environment.get("XDG_STATE_HOME") or "")
    folder = base if base.is_absolute() else home / ".local/state"
    return folder / "agent-broker/notified.json"


def _key(incident: Incident) -> Told:
    return Told(incident.id, incident.revision)
