"""The monitor does not answer: the broker, which releases nothing then, says so, once an outage."""

import asyncio
import logging

from agent_broker.clock import Clock
from agent_broker.daemon.parts import Parts
from agent_broker.errors import AgentBrokerError
from agent_broker.monitor.incident import NONE, Incident, incident_now

_ASK_S = 2.0
_ANSWER_S = 5.0
_LOG = logging.getLogger(__name__)

AWAY_S = 10.0
"""A restart takes a second; what is longer, a person should know."""


class Outage:
    """How long the monitor has been away. ``answered`` and ``failed`` are told what happened, in turn."""

    def __init__(self, clock: Clock) -> None:
        """It may need as long to start as it may be away."""
        self._clock = clock
        self._since_ns = clock.boot_ns()
        self._told = False

    def answered(self) -> None:
        """It is there, or was until now."""
        self._since_ns = self._clock.boot_ns()
        self._told = False

    def failed(self) -> Incident | None:
        """It did not answer; return the incident to raise if that lasts."""
        if self._told or self._clock.boot_ns() - self._since_ns < AWAY_S * 1e9:
            return None
        self._told = True
        return incident_now(
            self._clock,
            kind="monitor-tampered",
            severity="critical",
            what=f"the monitor has not answered for {AWAY_S:g} s: nothing is released, and no decoy is watched",
            tier=NONE,
            action="refused",
            next_step="start it: sudo agent-broker monitor; then find out from its log why it ended",
        )


async def watch_monitor(parts: Parts) -> None:
    """Ask the monitor how it is until cancelled: also one that was stopped, and keeps its connections, is missed."""
    outage = Outage(parts.clock)
    while True:
        try:
            await asyncio.wait_for(parts.monitor.status(), _ANSWER_S)
        except (AgentBrokerError, TimeoutError):
            await _tell(parts, outage.failed())
        else:
            outage.answered()
        await asyncio.sleep(_ASK_S)


async def _tell(parts: Parts, incident: Incident | None) -> None:
    if incident is None:
        return
    try:
        await parts.raise_alert(incident)
    except AgentBrokerError as error:
        _LOG.warning("the monitor's outage could not be stored: %s", error.message)
