"""Feeds the sinks: one task a sink, so that one that is down or hangs holds up neither another one nor a record.

The law of this module: recording an incident only sets a flag here. Everything else, reading the log included, is done
by the sink's own task, which waits for its receiver at most ``Pace.timeout_s`` at a time and gives way after each one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_broker.audit.alerts import AlertLog
from agent_broker.audit.sinks.outbox import Outbox, Waiting
from agent_broker.audit.sinks.port import Sink, SinkStatus
from agent_broker.errors import AgentBrokerError, RefusedError, UnavailableError

CURSOR_SUFFIX: Final = ".cursor"
_LOG = logging.getLogger(__name__)


class Pace(Struct, frozen=True):
    """How patient the dispatch is."""

    capacity: int = 10_000
    """Entries of the alert log that may wait for a sink; the oldest are dropped beyond that."""
    timeout_s: float = 30.0
    """How long a receiver may take over one incident."""
    first_retry_s: float = 0.5
    """Pause after a failure; it doubles with each further one."""
    last_retry_s: float = 60.0
    """The longest pause."""


class Dispatch:
    """All sinks. All methods belong to one event loop."""

    def __init__(self, log: AlertLog, log_path: Path, folder: Path, sinks: Sequence[Sink], pace: Pace) -> None:
        """Open the outboxes.

        Args:
            log: where incidents are recorded.
            log_path: its file.
            folder: of the cursors.
            sinks: with names of their own.
            pace: bounds.

        Raises:
            IntegrityError, UnavailableError: an outbox can't be opened (sinks.outbox).
        """
        self._feeds: list[_Feed] = []
        try:
            for sink in sinks:
                outbox = Outbox.open(folder / f"{sink.name}{CURSOR_SUFFIX}", log_path, log.head)
                self._feeds.append(_Feed(sink, outbox, log, pace))
        except BaseException:
            for feed in self._feeds:
                feed.outbox.close()
            raise
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver."""
        self._tasks = [asyncio.create_task(feed.run(), name=f"sink {feed.sink.name}") for feed in self._feeds]

    def status(self) -> tuple[SinkStatus, ...]:
        """Return how each sink is doing."""
        return tuple(feed.status() for feed in self._feeds)

    async def close(self) -> None:
        """Stop; what was not delivered is delivered after the next start."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for feed in self._feeds:
            feed.outbox.close()
            await feed.sink.close()
        self._tasks, self._feeds = [], []


class _Feed:
    """One sink's task and what it knows."""

    def __init__(self, sink: Sink, outbox: Outbox, log: AlertLog, pace: Pace) -> None:
        self.sink = sink
        self.outbox = outbox
        self._log = log
        self._pace = pace
        self._news = asyncio.Event()
        self._failures = 0
        self._last_error = ""
        log.notify(self._news.set)

    async def run(self) -> None:
        """Deliver for as long as the broker runs."""
        while True:
            self._news.clear()
            if await self._try_one():
                await asyncio.sleep(0)  # a receiver that takes them at once must not keep everybody else waiting
                continue
            if self._failures:
                await asyncio.sleep(self._pause_s())
            else:
                await self._news.wait()

    def status(self) -> SinkStatus:
        """See Dispatch.status."""
        cursor = self.outbox.cursor
        return SinkStatus(
            name=self.sink.name,
            state="waiting" if self._failures else "ok",
            backlog=self.outbox.backlog(self._log.head),
            delivered=cursor.numbered - cursor.dropped,
            dropped=cursor.dropped,
            last_error=self._last_error,
        )

    async def _try_one(self) -> bool:
        """Deliver the next incident; False if there is none, or it could not be delivered."""
        try:
            await self._trim()
            waiting = await self.outbox.next(self._log.head, self.sink.severity)
            if waiting is None:
                self._failures = 0
                return False
            await self._hand_over(waiting)
        except AgentBrokerError as error:
            self._failed(error.message)
            return False
        if self._failures:
            _LOG.info("sink %s: delivers again", self.sink.name)
        self._failures = 0
        return True

    async def _trim(self) -> None:
        dropped = await self.outbox.trim(self._log.head, self.sink.severity, self._pace.capacity)
        if dropped:
            _LOG.warning("sink %s: its backlog is full, %d incidents were dropped", self.sink.name, dropped)

    async def _hand_over(self, waiting: Waiting) -> None:
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                await self.sink.deliver(waiting.incident, waiting.number)
        except RefusedError as error:
            self._last_error = error.message
            _LOG.warning("sink %s: incident %s was refused: %s", self.sink.name, waiting.incident.id, error.message)
            self.outbox.drop(waiting)
            return
        except AgentBrokerError:
            raise
        except TimeoutError:
            raise UnavailableError(f"its receiver did not answer within {self._pace.timeout_s:g} s") from None
        except Exception as error:  # noqa: BLE001 - of a library; its text could quote an address with a secret
            raise UnavailableError(f"it failed with {type(error).__name__}") from None
        self.outbox.done(waiting)

    def _failed(self, message: str) -> None:
        if not self._failures or message != self._last_error:
            _LOG.warning("sink %s: %s", self.sink.name, message)
        self._failures += 1
        self._last_error = message

    def _pause_s(self) -> float:
        return min(self._pace.first_retry_s * float(1 << min(self._failures - 1, 16)), self._pace.last_retry_s)
