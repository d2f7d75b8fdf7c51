"""Incidents of the monitor: stored durably, then acknowledged, then acted on.

An incident is acknowledged only when it is in the alert log, so neither daemon's death loses one; the log knows an
incident's id, so one that comes twice is one.
"""

import asyncio
import logging

from agent_broker.daemon.parts import Parts
from agent_broker.errors import AgentBrokerError
from agent_broker.monitor.incident import Incident

_RETRY_S = 0.5
_LOG = logging.getLogger(__name__)


class IncidentFeed:
    """Follows the monitor for as long as the broker runs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def follow(self) -> None:
        """Pull incidents until cancelled; a monitor that is down is waited for."""
        while True:
            try:
                async for push in self._parts.monitor.incidents():
                    await self._parts.take(push.incident)
                    await self._approved(push.incident)
                    await self._parts.monitor.acknowledge(push.sequence)
            except AgentBrokerError as error:
                _LOG.warning("incidents: %s", error.message)
            await asyncio.sleep(_RETRY_S)

    async def _approved(self, incident: Incident) -> None:
        """An update was enrolled unasked: know it too, and journal it."""
        if (incident.kind, incident.action) != ("agent-updated", "approved"):
            return
        self._parts.enrolled.reload()
        what = {"agent": incident.agent, "path": incident.path, "sha256": incident.process_sha256}
        await self._parts.journal.append("update-approved", {**what, "what": incident.what})
