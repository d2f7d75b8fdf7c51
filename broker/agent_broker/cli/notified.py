"""What a follower has told already: so that a restart tells nothing twice and leaves nothing out."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file
from agent_broker.monitor.incident import Incident

REMEMBERED: Final = 4_096


class Told(Struct, frozen=True):
    """The last one, as it is kept in the user's state folder."""

    id: str
    revision: int


_NONE_YET: Final = Told("", 0)


class Memory:
    """Of one follower."""

    def __init__(self, path: Path) -> None:
        """Read what is kept; a file that says nothing sensible is as none."""
        self._path = path
        self._told: OrderedDict[Told, None] = OrderedDict()
        try:
            self._last: Told | None = msgspec.json.decode(path.read_bytes(), type=Told)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            self._last = None

    def missed(self, stored: Iterable[Incident]) -> tuple[Incident, ...]:
        """Return which of the stored incidents (oldest first) came after the last told one.

        A follower that was never there before begins with what comes now; if the last told one is not among the stored
        ones any more, all of these came after it.

        Raises:
            UnavailableError: as ``tell``.
        """
        incidents = tuple(stored)
        if self._last is None:
            self._keep(_key(incidents[-1]) if incidents else _NONE_YET)
            return ()
        keys = [_key(each) for each in incidents]
        if self._last in keys:
            incidents = incidents[len(keys) - keys[::-1].index(self._last) :]
        return tuple(each for each in incidents if self.is_new(each))

    def is_new(self, incident: Incident) -> bool:
        """Tell whether this revision was not told yet."""
        return _key(incident) not in self._told

    def tell(self, incident: Incident) -> None:
        """Remember that it was told, or passed over on purpose.

        Raises:
            UnavailableError: the disk refused; it is remembered for as long as this process lives.
        """
        self._keep(_key(incident))
        self._told[_key(incident)] = None
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    def _keep(self, last: Told) -> None:
        self._last = last
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._path, msgspec.json.encode(self._last))


def state_file(environment: Mapping[str, str], home: Path) -> Path:
    """Return where a user's follower keeps it (XDG Base Directory Specification)."""
    base = Path(environment.get("XDG_STATE_HOME") or "")
    folder = base if base.is_absolute() else home / ".local/state"
    return folder / "agent-broker/notified.json"


def _key(incident: Incident) -> Told:
    return Told(incident.id, incident.revision)
