"""What the broker's own alerts say of their offender: the monitor is asked, which sees the process.

An alert never waits longer than ANSWER_S for that, and goes out with what is recorded if the monitor does not answer;
its tier is ``none`` then, which is what no monitor amounts to. Later revisions of an incident say the same of the same
program, unless they are worse: by then it may be gone, and a process that was thawed is not stopped anew.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol

from msgspec import structs

from agent_broker.errors import AgentBrokerError
from agent_broker.lineage.record import Step
from agent_broker.monitor.glimpse import offender_of
from agent_broker.monitor.incident import NO_TIER, NONE, Incident, rank

ANSWER_S = 5.0
"""Of a monitor that is there; it takes some 2 s at most (monitor.completing)."""
_REMEMBERED = 4096  # incidents; more than can be open


class MonitorPort(Protocol):
    """Who sees processes (monitor.client.MonitorClient)."""

    async def complete(self, incident: Incident) -> Incident:
        """See MonitorClient."""
        ...


class Completion:
    """See the module. Belongs to one event loop."""

    def __init__(self, monitor: MonitorPort) -> None:
        self._monitor = monitor
        self._known: OrderedDict[str, Incident] = OrderedDict()

    async def of(self, incident: Incident) -> Incident:
        """Return an incident with what the monitor says of its offender, and of what it did; never raises."""
        known = self._known.get(incident.id)
        if known is None or _program(known) != _program(incident) or rank(incident.severity) > rank(known.severity):
            try:
                known = await asyncio.wait_for(self._monitor.complete(incident), ANSWER_S)
            except (AgentBrokerError, TimeoutError):
                return _as_recorded(incident)
            self._known[incident.id] = known
            self._known.move_to_end(incident.id)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return structs.replace(
            incident,
            tier=known.tier,
            epoch=known.epoch,
            lineage=known.lineage,
            process_sha256=known.process_sha256,
            offender=known.offender,
            session=known.session,
            response=known.response,
        )


def _program(incident: Incident) -> tuple[int, int] | None:
    step: Step | None = incident.lineage[0] if incident.lineage else None
    return None if step is None else (step.proc_id, step.image.exec_id)


def _as_recorded(incident: Incident) -> Incident:
    return structs.replace(
        incident,
        tier=NONE if incident.tier == NO_TIER else incident.tier,
        offender=offender_of(None, incident.lineage, "") if incident.lineage else None,
    )
