"""What a person said about an incident, and the incident with that.

Acknowledgements are lines of the alerts' journal, so they survive the store that answers queries (audit.store).
"""

from typing import Any, Final, Self

from msgspec import Struct

from agent_broker.ids import Uid
from agent_broker.monitor.incident import Incident, rank

KIND: Final = "acknowledged"
MAX_REASON_CHARS: Final = 500


class Ack(Struct, frozen=True):
    """A person looked at an incident."""

    incident: str
    """Its whole id."""
    uid: Uid
    """Who, as root's command line said: the user that called sudo, or root."""
    time_ns: int
    """CLOCK_REALTIME."""
    reason: str
    severity: str
    """Of the incident as it was looked at: one that grew since is not settled by it."""
    revision: int
    """Of the incident as it was looked at."""
    allowed: str = ""
    """The program that was allowed with it; empty: none."""
    expires_ns: int = 0
    """When that ends, CLOCK_REALTIME; 0: never, or nothing was allowed."""


class Alert(Incident, frozen=True):
    """An incident as people and scripts get it."""

    acked: Ack | None = None
    """The last acknowledgement, whether it still settles the incident or not."""

    @classmethod
    def of(cls, incident: Incident, ack: Ack | None) -> Self:
        """Join both."""
        fields: dict[str, Any] = {name: getattr(incident, name) for name in Incident.__struct_fields__}
        return cls(**fields, acked=ack)


def joined(incident: bytes, ack: bytes | None) -> bytes:
    """Return JSON of an Alert from JSON of its parts, as msgspec encodes them, without making one: readers wait."""
    return b"".join((incident[:-1], b',"acked":', ack or b"null", b"}"))


def is_settled(incident: Incident, ack: Ack | None) -> bool:
    """Tell whether an acknowledgement covers the incident as it is now: one that grew in severity is open again."""
    return ack is not None and rank(ack.severity) >= rank(incident.severity)
