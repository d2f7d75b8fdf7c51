"""Incidents on their way out: completed, to the spool and to the broker at once, to the disk soon.

Who is to be stopped is stopped first; only then is it looked at, within the bounds of monitor.completing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agent_broker.errors import UnavailableError
from agent_broker.monitor.completing import as_it_is
from agent_broker.monitor.details import details_of
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.spool import Spool

_SYNC_AFTER_S = 0.05
"""How long the broker has to store an incident durably before the monitor does so itself; it takes some 2 ms."""
_AT_ONCE = 64  # incidents that are completed; beyond that they go out with what is recorded

_LOG = logging.getLogger(__name__)


class Publisher:
    """Takes incidents (monitor.report.Publish). Lives in the monitor's event loop.

    Attributes:
        made: incidents, and revisions of them, since the start.
        respond: does what is to be done against the offender, and returns the incident that says so.
        complete: says what is known of an offender whom nobody has looked at yet.
        push: tells whoever follows that there is something new. All are to be set before anything is published.
    """

    def __init__(self, spool: Spool) -> None:
        self.made = 0
        self.respond: Callable[[Incident], Incident] = lambda incident: incident
        self.complete: Callable[[Incident], Awaitable[Incident]] = as_it_is
        self.push: Callable[[], None] = lambda: None
        self._spool = spool
        self._unsynced = False
        self._syncing: asyncio.Task[None] | None = None
        self._completing: set[asyncio.Task[None]] = set()

    def __call__(self, incident: Incident) -> None:
        """Write an incident and push it to the broker at once; wait for the disk later, if the broker is not there.

        One that names an offender whom nobody has looked at is completed first; a flood of such is not.
        """
        incident = self.respond(incident)
        self.made += 1
        if incident.offender is not None or not incident.lineage or len(self._completing) >= _AT_ONCE:
            self._store(incident)
            return
        task = asyncio.get_running_loop().create_task(self._store_completed(incident))
        self._completing.add(task)
        task.add_done_callback(self._completing.discard)

    async def _store_completed(self, incident: Incident) -> None:
        with details_of(f"an incident ({incident.kind})"):
            incident = await self.complete(incident)
        self._store(incident)

    def _store(self, incident: Incident) -> None:
        try:
            self._spool.append(incident)
        except UnavailableError as error:
            _LOG.error("%s", error.message)
        self.push()
        self._unsynced = True
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.get_running_loop().create_task(self._sync())

    @property
    def in_work(self) -> int:
        """Incidents that are completed before they go out."""
        return len(self._completing)

    async def close(self) -> None:
        """Wait until what was published is durable."""
        while self._completing:
            await asyncio.gather(*self._completing)
        if self._syncing is not None:
            await self._syncing

    async def _sync(self) -> None:
        """Make the spool durable, unless the broker has stored everything by then: two writers slow each other down."""
        while self._unsynced:
            self._unsynced = False
            await asyncio.sleep(_SYNC_AFTER_S)
            if not self._spool.unacknowledged():
                continue
            try:
                await self._spool.sync()
            except UnavailableError as error:
                _LOG.error("%s", error.message)
