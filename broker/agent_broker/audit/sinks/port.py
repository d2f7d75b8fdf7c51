"""What a sink is, and how one is doing."""

from typing import Final, Protocol

from msgspec import Struct

from agent_broker.monitor.incident import Incident, rank

OTLP_PORT: Final = 4317
"""The OTLP specification's for gRPC."""


class Sink(Protocol):
    """One receiver of incidents. ``dispatch`` calls it for one incident at a time, in order."""

    name: str
    """Unique among the sinks, a short word: it names the sink's file in the outbox."""
    severity: str
    """The least that it wants to hear."""

    async def deliver(self, incident: Incident, number: int) -> None:
        """Hand an incident over; it is delivered when this returns.

        Args:
            incident: a new one, or a new revision of one that was delivered before.
            number: counts what this sink was to get, from 1. A number that comes twice is one that may have been
                delivered before (the broker died, or an answer was lost); a gap is what was dropped.

        Raises:
            UnavailableError: not now; the same incident comes again.
            RefusedError: the receiver will never take this one; it is counted as dropped.
        """

    async def close(self) -> None:
        """Let go of connections."""


class SinkStatus(Struct, frozen=True):
    """How a sink is doing. Holds no secret and no address."""

    name: str
    state: str
    """``ok``; ``waiting``: the last try failed, it is tried again."""
    backlog: int
    """Entries of the alert log that it has still to go through."""
    delivered: int
    """Since it was first enabled."""
    dropped: int
    """Since it was first enabled: its backlog was full, or its receiver refused them."""
    last_error: str = ""
    """Why the last failure happened, one sentence; it stays when the sink is well again."""


def is_wanted(incident: Incident, severity: str) -> bool:
    """Tell whether an incident is at least as severe; one of an unknown severity is wanted by everybody."""
    return rank(incident.severity) >= rank(severity)


def lineage_lines(incident: Incident) -> list[str]:
    """Return a line for each step of an incident's lineage: relation, pid, file and hash, as far as they are known."""
    return [
        f"{step.relation} {step.pid} {step.image.filename} {incident.sha256_of(index) or ''}".rstrip()
        for index, step in enumerate(incident.lineage)
    ]
