"""What the control plane asks about alerts, answered from the alert log and the store beside it."""

from collections.abc import AsyncGenerator

import msgspec

from agent_broker.audit.acks import MAX_REASON_CHARS, Ack, Alert, is_settled, joined
from agent_broker.audit.alerts import Follower
from agent_broker.audit.alerts import Missed as MissedByFollower
from agent_broker.audit.store import Query
from agent_broker.daemon.parts import Parts
from agent_broker.errors import MisuseError
from agent_broker.monitor.incident import Incident, rank
from agent_broker.transport.control_records import Acknowledgement, AlertFilter, Missed


async def alerts(
    parts: Parts, limit: int, wanted: AlertFilter, *, follow: bool
) -> AsyncGenerator[Incident | bytes | Missed | None]:
    """See ReadPort.alerts."""
    before = parts.stored_alerts.store.seq  # whatever is recorded while following begins has a higher number
    follower = parts.alerts.follow() if follow else None
    try:
        told: dict[str, int] = {}
        async for found in parts.stored_alerts.query(_query(limit, wanted)):
            if found.seq > before:
                told[found.id] = found.revision
            yield found.json
        if follower is None:
            return
        yield None
        async for each in _live(parts, follower, wanted, told):
            yield each
    finally:
        if follower is not None:
            follower.close()


async def acknowledge(parts: Parts, said: Acknowledgement) -> Alert:
    """See AdminPort.acknowledge.

    Raises:
        MisuseError: there is no such alert, or the reason is longer than MAX_REASON_CHARS.
        UnavailableError: the disk refused.
    """
    if len(said.reason) > MAX_REASON_CHARS:
        raise MisuseError(f"a reason has at most {MAX_REASON_CHARS} characters")
    incident = await parts.stored_alerts.find(said.alert)
    ack = Ack(
        incident=incident.id,
        uid=said.uid,
        time_ns=parts.clock.wall_ns(),
        reason=said.reason,
        severity=incident.severity,
        revision=incident.revision,
        allowed=said.allowed,
        expires_ns=said.expires_ns,
    )
    await parts.alerts.acknowledge(ack)
    return await parts.stored_alerts.find(incident.id)


def _query(limit: int, wanted: AlertFilter) -> Query:
    return Query(limit, wanted.since_ns, wanted.min_severity, wanted.kind, with_acked=not wanted.hide_acked)


async def _live(
    parts: Parts, follower: Follower, wanted: AlertFilter, told: dict[str, int]
) -> AsyncGenerator[bytes | Missed]:
    store = parts.stored_alerts.store
    async for each in follower:
        if isinstance(each, MissedByFollower):
            yield Missed(each.count)
        elif each.revision > told.get(each.id, -1) and _is_wanted(each, ack := store.acks.get(each.id), wanted):
            yield joined(msgspec.json.encode(each), None if ack is None else msgspec.json.encode(ack))


def _is_wanted(incident: Incident, ack: Ack | None, wanted: AlertFilter) -> bool:
    return (
        rank(incident.severity) >= rank(wanted.min_severity)
        and max(incident.last_ns, incident.time_ns) >= wanted.since_ns
        and wanted.kind in {"", incident.kind}
        and not (wanted.hide_acked and is_settled(incident, ack))
    )
