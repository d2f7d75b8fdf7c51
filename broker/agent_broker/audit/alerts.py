"""The alerts: incidents on the disk, each revision once, and handed to whoever follows.

The law of this module: an incident is in the log's file before a follower sees it, so that no process's death takes it
back, and durable before ``record`` returns and before a sink gets it (docs/adr/0010; if the disk refuses after a
follower saw it, it comes again when it was recorded); a higher revision of an incident replaces the lower one, and a
lower one that comes late is known already; a slow follower loses incidents visibly (``Missed``) and never delays a
record.
"""

import asyncio
import weakref
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.audit import acks
from agent_broker.audit.acks import Ack
from agent_broker.audit.chain import Head
from agent_broker.audit.journal import DEFAULT_LIMITS, Journal, Limits, read
from agent_broker.clock import Clock
from agent_broker.errors import IntegrityError
from agent_broker.monitor.incident import Incident

KIND: Final = "incident"
RECENT: Final = 1_000  # incidents kept in memory for ``recent``
REMEMBERED_IDS: Final = 65_536  # against duplicates: more than the monitor's spool can hold unacknowledged
LOOKED_BACK: Final = 16_384  # lines of the log that are read at the start; the monitor's spool holds fewer (spool.py)
QUEUE: Final = 256  # incidents that wait for one follower


class Missed(Struct, frozen=True):
    """In a follower's stream: here ``count`` incidents are missing; ``AlertLog.recent`` has them."""

    count: int


class AlertLog:
    """The journal of incidents. All methods belong to one event loop."""

    def __init__(self, journal: Journal) -> None:
        """Use an open journal; ``open`` also loads what it holds."""
        self._journal = journal
        self._recent: OrderedDict[str, Incident] = OrderedDict()
        self._revisions: OrderedDict[str, int] = OrderedDict()
        """The highest revision of each id that is durable."""
        self._writing: dict[tuple[str, int], asyncio.Future[int]] = {}
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._listeners: list[Callable[[], None]] = []

    @classmethod
    def open(cls, path: Path, clock: Clock, limits: Limits = DEFAULT_LIMITS) -> "AlertLog":
        """Open the log, or begin one.

        Raises:
            IntegrityError: it is not what was written.
            UnavailableError: another process writes it, or the disk refuses.
        """
        journal = Journal.open(path, clock, limits)
        log = cls(journal)
        try:
            for entry in read(path, after=max(0, journal.head.seq - LOOKED_BACK)):
                if entry.kind == KIND:
                    log._remember(_decoded(entry.body, path, entry.seq))
        except BaseException:
            journal.close()
            raise
        return log

    async def record(self, incident: Incident) -> bool:
        """Store a revision of an incident; return True when it is durable, False if it, or a higher one, was before.

        Raises:
            UnavailableError: the disk refused; it may be recorded again later.
        """
        under_way = self._writing.get((incident.id, incident.revision))
        if under_way is not None:
            await asyncio.shield(under_way)
            return False
        if self._revisions.get(incident.id, -1) >= incident.revision:
            return False
        writing = self._journal.begin(KIND, incident, lambda: self._tell(incident))
        self._writing[incident.id, incident.revision] = writing
        if writing.done():
            self._stored(incident, writing)
        else:
            writing.add_done_callback(lambda done: self._stored(incident, done))
        await asyncio.shield(writing)
        return True

    async def acknowledge(self, ack: Ack) -> None:
        """Write down what a person said about an incident; durable on return.

        Raises:
            UnavailableError: the disk refused.
        """
        await self._journal.append(acks.KIND, msgspec.to_builtins(ack))

    def recent(self, limit: int) -> tuple[Incident, ...]:
        """Return the incidents that were told last, in their newest revisions, the last one last.

        At most ``limit``, and at most RECENT.
        """
        return tuple(self._recent.values())[-limit:] if limit > 0 else ()

    def follow(self) -> "Follower":
        """Return a stream of the incidents that are recorded from this call on."""
        follower = Follower()
        self._followers.add(follower)
        return follower

    @property
    def head(self) -> Head:
        """The last line of the journal that is durable."""
        return self._journal.head

    def notify(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` from now on when an incident is durable; it must return at once."""
        self._listeners.append(listener)

    def close(self) -> None:
        """End all streams and close the journal.

        Raises:
            UnavailableError: as Journal.close.
        """
        for follower in tuple(self._followers):
            follower.close()
        self._journal.close()

    def _tell(self, incident: Incident) -> bool:
        """Return whether anybody follows."""
        followers = tuple(self._followers)
        for follower in followers:
            follower.offer(incident)
        return bool(followers)

    def _stored(self, incident: Incident, done: asyncio.Future[int]) -> None:
        """Runs once the journal answered, even if the task that recorded was cancelled meanwhile."""
        del self._writing[incident.id, incident.revision]
        if done.cancelled() or done.exception() is not None:
            return
        self._remember(incident)
        for listener in self._listeners:
            listener()

    def _remember(self, incident: Incident) -> None:
        if incident.revision < self._revisions.get(incident.id, -1):
            return  # two revisions were written at once: the higher one stays
        self._revisions[incident.id] = incident.revision
        self._revisions.move_to_end(incident.id)
        while len(self._revisions) > REMEMBERED_IDS:
            self._revisions.popitem(last=False)
        self._recent[incident.id] = incident
        self._recent.move_to_end(incident.id)
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)


class Follower(AsyncIterator[Incident | Missed]):
    """One follower's stream; ``async for`` ends when it is closed."""

    def __init__(self) -> None:
        """Begin empty."""
        self._queue: deque[Incident] = deque()
        self._missed = 0
        self._is_closed = False
        self._news = asyncio.Event()

    def offer(self, incident: Incident) -> None:
        """Queue an incident, or count it as missed: once one is missed, all are until the follower caught up."""
        if self._missed or len(self._queue) >= QUEUE:
            self._missed += 1
        else:
            self._queue.append(incident)
        self._news.set()

    def close(self) -> None:
        """End the stream, after what is queued."""
        self._is_closed = True
        self._news.set()

    def __aiter__(self) -> "Follower":
        return self

    async def __anext__(self) -> Incident | Missed:
        while True:
            if self._queue:
                return self._queue.popleft()
            if self._missed:
                missed, self._missed = Missed(self._missed), 0
                return missed
            if self._is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()


def _decoded(body: object, path: Path, seq: int) -> Incident:
    try:
        return msgspec.convert(body, type=Incident)
    except msgspec.ValidationError as error:
        raise IntegrityError(
            f"{path}:{seq}: this line is not an incident: {error}", next_step="move the file away as evidence"
        ) from error
