"""The store of incidents beside a running event loop: filled soon after, and never in the way of an alert.

Followers are served by the alert log as soon as an incident is durable. The store reads the journal a moment later, in
a thread; whoever asks the store waits until it has caught up, so an answer never lacks what was recorded before it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator

from agent_broker.audit.acks import Alert
from agent_broker.audit.store import AlertStore, Found, Query
from agent_broker.errors import AgentBrokerError

DELAY_S = 0.25
"""How long the store lags at most when nobody asks: an incident's followers have read it by then."""

_AT_ONCE = 200  # incidents, of some 4 KB each
_LOG = logging.getLogger(__name__)


class StoreFeed:
    """Keeps a store up to date. All methods belong to one event loop."""

    def __init__(self, store: AlertStore) -> None:
        self.store = store
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    def nudge(self) -> None:
        """Say that the journal grew; returns at once."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._begin)

    async def query(self, query: Query) -> AsyncGenerator[Found]:
        """Yield what a query finds, oldest revision first; a few at a time are in memory.

        Raises:
            UnavailableError, IntegrityError: as AlertStore.
        """
        await asyncio.to_thread(self.store.catch_up)
        ids = await asyncio.to_thread(self.store.ids, query)
        for start in range(0, len(ids), _AT_ONCE):
            for found in await asyncio.to_thread(self.store.fetch, ids[start : start + _AT_ONCE]):
                yield found

    async def find(self, prefix: str) -> Alert:
        """See AlertStore.find."""
        await asyncio.to_thread(self.store.catch_up)
        return await asyncio.to_thread(self.store.find, prefix)

    async def close(self) -> None:
        """Take what the journal has, then release the file."""
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            await self._running
        await self._catch_up()
        self.store.close()

    def _begin(self) -> None:
        self._timer = None
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._catch_up())
        else:
            self.nudge()

    async def _catch_up(self) -> None:
        try:
            await asyncio.to_thread(self.store.catch_up)
        except AgentBrokerError as error:
            _LOG.warning("alerts: %s", error.message)
