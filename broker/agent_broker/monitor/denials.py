"""Reads what the kernel side told of denials and of attacks on us, and hands each to who makes an incident of it.

Lineage events come first: who it was is known by the time a denial is looked at. A restarted monitor reads what its
predecessor could not: the ring is pinned, so even the signal that killed it is told.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol

from agent_broker.errors import AgentBrokerError
from agent_broker.kernel import wire
from agent_broker.kernel.events import Denial

_ON_US = frozenset({wire.OPERATION_SIGNAL, wire.OPERATION_HOLD, wire.OPERATION_MAP, wire.OPERATION_PROGRAM})

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where denials come from (kernel.denials.Denials)."""

    @property
    def epoll_fd(self) -> int:
        """Readable when something is told."""
        ...

    @property
    def lost(self) -> int:
        """How many were not told, since the start."""
        ...

    def consume(self, sink: Callable[[Denial], None]) -> None:
        """Hand over everything that is told by now."""
        ...

    def take_over(self, sink: Callable[[Denial], None]) -> int:
        """End earlier monitors' programs, and hand over what they told; return how many monitors' they were."""
        ...


class Taker(Protocol):
    """Who makes incidents of them."""

    def report(self, event: Denial) -> None:
        """Take one that happened just now."""
        ...

    def report_earlier(self, event: Denial) -> None:
        """Take one that an earlier monitor was told, or would have been."""
        ...

    def missed(self, reason: str) -> None:
        """Take that some were not told."""
        ...


class DenialReader:
    """See the module. One event loop's."""

    def __init__(self, source: Source, drain: Callable[[], object], files: Taker | None, us: Taker) -> None:
        """Read nothing yet.

        Args:
            source: the kernel side.
            drain: applies the lineage events that are waiting (Sensor.consume).
            files: takes denials of marked files; None: none are marked.
            us: takes what was done to the monitor or the broker.
        """
        self._source = source
        self._drain = drain
        self._files = files
        self._us = us
        self._lost = 0

    def start(self) -> None:
        """Read from now on."""
        asyncio.get_running_loop().add_reader(self._source.epoll_fd, self.read)

    def close(self) -> None:
        """Read what is there, and nothing more."""
        self.read()
        asyncio.get_running_loop().remove_reader(self._source.epoll_fd)

    def read(self) -> None:
        """Hand over what is told by now."""
        self._drain()
        try:
            self._source.consume(self._take)
        except AgentBrokerError as error:
            self._us.missed(f"a denial could not be read ({error.message})")
        before, self._lost = self._lost, self._source.lost
        if self._lost != before:
            (self._files or self._us).missed("denials came too fast to be told one by one")

    def take_over(self) -> None:
        """End what earlier monitors deny; call it when everything is marked. What they saw is reported."""
        try:
            count = self._source.take_over(self._take_earlier)
        except AgentBrokerError as error:
            _log.error("%s", error.message)
            return
        if count:
            _log.info("took over from %d earlier monitor(s)", count)

    def _take(self, event: Denial) -> None:
        taker = self._us if event.operation in _ON_US else self._files
        if taker is not None and event.pid != os.getpid():
            taker.report(event)

    def _take_earlier(self, event: Denial) -> None:
        taker = self._us if event.operation in _ON_US else self._files
        if taker is not None and event.pid != os.getpid():  # our own look at their ring
            taker.report_earlier(event)
