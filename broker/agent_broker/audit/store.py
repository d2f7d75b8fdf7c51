"""Incidents for queries: newest revision of each, kept for a chosen time, with what people said about them.

The law of this module:

1. The journal of the alerts is the truth. The store is filled by reading that journal on from where it stopped, so
   what it holds is in the journal's order, and a store that is missing, damaged or of another journal is made anew
   from it; ``problems`` then says so.
2. Of one incident the highest revision stays; a lower one changes nothing.
3. It never grows beyond ``max_incidents``, and forgets an incident ``keep_ns`` after its last event. The journal keeps
   what its own limits allow (``segments``).

All methods block; audit.store_feed calls them in threads. One thread at a time is inside (a lock).
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from agent_broker.audit import acks
from agent_broker.audit.acks import Ack
from agent_broker.audit.chain import Entry, Head
from agent_broker.audit.store_file import make_store, open_store
from agent_broker.audit.tail import OtherJournalError, entries_after
from agent_broker.clock import Clock
from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.monitor.incident import Incident, rank

INCIDENT = "incident"
"""The journal's kind of line, audit.alerts.KIND."""
_BATCH = 200  # journal lines in one transaction
_HEX = frozenset("0123456789abcdef")
_T = TypeVar("_T", Incident, Ack)
_R = TypeVar("_R")

_UPSERT = """INSERT INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    revision = excluded.revision, seq = excluded.seq, time_ns = excluded.time_ns, last_ns = excluded.last_ns,
    rank = excluded.rank, kind = excluded.kind, record = excluded.record WHERE excluded.revision > revision"""
_IDS = """SELECT i.id FROM incidents i LEFT JOIN acks a ON a.id = i.id
    WHERE i.last_ns >= ? AND i.rank >= ? AND (? = '' OR i.kind = ?) AND (? OR a.rank IS NULL OR a.rank < i.rank)
    ORDER BY i.seq DESC LIMIT ?"""
_FETCH = """SELECT i.seq, i.id, i.revision, i.record, a.record FROM incidents i LEFT JOIN acks a ON a.id = i.id
    WHERE i.id IN (SELECT value FROM json_each(?)) ORDER BY i.seq"""
_TOO_MANY = """DELETE FROM incidents WHERE seq <= (SELECT seq FROM incidents ORDER BY seq DESC LIMIT 1 OFFSET ?)"""


class Query(Struct, frozen=True):
    """Which incidents."""

    limit: int
    """The newest so many, by their last revision."""
    since_ns: int = 0
    """Whose last event is not older, CLOCK_REALTIME."""
    min_severity: str = "info"
    kind: str = ""
    """Empty: all."""
    with_acked: bool = True


class Found(Struct, frozen=True):
    """A stored incident."""

    seq: int
    """The journal's line of this revision."""
    id: str
    revision: int
    json: bytes
    """Of audit.acks.Alert."""


class AlertStore:
    """An open store."""

    def __init__(self, path: Path, journal: Path, clock: Clock, *, keep_ns: int, max_incidents: int) -> None:
        """Open the store, or make one; ``catch_up`` fills it. If the disk refuses, each call tries again.

        Args:
            path: of the SQLite file.
            journal: of the alerts.
            clock: for the age of incidents.
            keep_ns: how long after its last event an incident is kept.
            max_incidents: how many are kept.
        """
        self.problems: tuple[str, ...] = ()
        """What a person should know: sentences."""
        self.acks: dict[str, Ack] = {}
        """By id, of the incidents that are kept. Replaced by whole values, so any thread may read it."""
        self.seq = 0
        """The journal's line that was taken last."""
        self._path, self._journal, self._clock = path, journal, clock
        self._keep_ns, self._max_incidents = keep_ns, max_incidents
        self._lock = threading.Lock()
        self._held: sqlite3.Connection | None = None
        try:
            self.seq = self._whole(self._place).seq
        except UnavailableError as error:
            self.problems = (f"alerts can't be asked for: {error.message}",)

    def catch_up(self) -> None:
        """Take what the journal has and the store has not; drop what is too old or too much.

        Raises:
            UnavailableError: the disk refuses; the next call goes on where this one stopped.
            IntegrityError: the journal itself is damaged.
        """
        with self._lock:
            self._whole(self._catch_up)

    def ids(self, query: Query) -> list[str]:
        """Return the ids of what a query finds, oldest revision first.

        Raises:
            UnavailableError: the store can't be read.
        """
        kind = query.kind
        values = (query.since_ns, rank(query.min_severity), kind, kind, query.with_acked, max(query.limit, 0))
        with self._lock:
            rows = self._whole(lambda: self._connection.execute(_IDS, values).fetchall())
        return [id_ for (id_,) in reversed(rows)]

    def fetch(self, ids: list[str]) -> list[Found]:
        """Return incidents as they are now, oldest revision first; without those that were dropped meanwhile.

        Raises:
            UnavailableError: the store can't be read.
        """
        wanted = msgspec.json.encode(ids).decode()
        with self._lock:
            rows = self._whole(lambda: self._connection.execute(_FETCH, (wanted,)).fetchall())
        return [Found(seq, id_, revision, acks.joined(*records)) for seq, id_, revision, *records in rows]

    def find(self, prefix: str) -> acks.Alert:
        """Return the incident whose id begins so.

        Raises:
            MisuseError: there is none, there are several, or this can't be an id.
        """
        if not prefix or not set(prefix) <= _HEX:
            raise MisuseError("an alert is named by its id or the first letters of it", next_step="agent-broker alerts")
        statement = "SELECT record FROM incidents WHERE id >= ? AND id < ? LIMIT 2"
        with self._lock:
            found = self._whole(lambda: self._incidents(statement, prefix, f"{prefix}g"))
        if not found:
            raise MisuseError(f"there is no alert {prefix}", next_step="agent-broker alerts --all")
        if len(found) > 1:
            raise MisuseError(f"several alerts begin with {prefix}", next_step="give more letters of the id")
        return acks.Alert.of(found[0], self.acks.get(found[0].id))

    def close(self) -> None:
        """Release the file; twice is fine."""
        with self._lock:
            self._let_go()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._held is None:
            self._held = self._open()
        return self._held

    def _let_go(self) -> None:
        if self._held is not None:
            with suppress(sqlite3.Error):
                self._held.close()
            self._held = None

    def _open(self) -> sqlite3.Connection:
        try:
            connection = open_store(self._path)
            self.acks = {
                id_: msgspec.json.decode(record, type=Ack)
                for id_, record in connection.execute("SELECT id, record FROM acks")
            }
        except FileNotFoundError:
            return self._make("was missing" if self._journal.stat().st_size else "")
        except (sqlite3.DatabaseError, msgspec.DecodeError, IntegrityError) as error:
            if isinstance(error, sqlite3.DatabaseError) and not _is_damage(error):
                raise _unavailable(self._path, error) from error
            return self._make("was damaged")
        return connection

    def _make(self, why: str = "") -> sqlite3.Connection:
        self.acks = {}
        if why:
            self.problems = (f"the store of alerts {why}, and was made anew from {self._journal}",)
        try:
            return make_store(self._path)
        except (OSError, sqlite3.Error) as error:
            raise UnavailableError(
                f"{self._path} can't be made: {type(error).__name__}", next_step="check the disk's space"
            ) from error

    def _whole(self, work: Callable[[], _R]) -> _R:
        """Do something with the store; if it turns out to be damaged, make it anew and do it again."""
        try:
            return work()
        except (sqlite3.DatabaseError, msgspec.DecodeError, OtherJournalError) as error:
            if isinstance(error, sqlite3.DatabaseError) and not _is_damage(error):
                raise _unavailable(self._path, error) from error
            self._let_go()
            why = "was of another journal" if isinstance(error, OtherJournalError) else "was damaged"
        try:
            self._held = self._make(why)
            self._catch_up()
            return work()
        except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
            raise _unavailable(self._path, error) from error

    def _catch_up(self) -> None:
        entries = entries_after(self._journal, self._place())
        while batch := list(islice(entries, _BATCH)):
            found: dict[str, Ack] = {}
            with self._transaction():
                for entry, _ in batch:
                    self._take(entry, found)
                head = batch[-1][1]
                self._connection.execute(
                    "UPDATE place SET seq = ?, sha256 = ?, size_bytes = ?", (head.seq, head.sha256, head.size_bytes)
                )
                gone = self._drop_old()
            self.seq = head.seq
            self.acks = {id_: ack for id_, ack in (self.acks | found).items() if id_ not in gone}

    def _take(self, entry: Entry, found: dict[str, Ack]) -> None:
        if entry.kind == INCIDENT:
            each = _as(entry, Incident)
            last_ns, record = max(each.last_ns, each.time_ns), msgspec.json.encode(each)
            row = (each.id, each.revision, entry.seq, each.time_ns, last_ns, rank(each.severity), each.kind, record)
            self._connection.execute(_UPSERT, row)
        elif entry.kind == acks.KIND:
            ack = _as(entry, Ack)
            row_of_ack = (ack.incident, rank(ack.severity), msgspec.json.encode(ack))
            self._connection.execute("INSERT OR REPLACE INTO acks VALUES (?, ?, ?)", row_of_ack)
            found[ack.incident] = ack

    def _drop_old(self) -> Iterable[str]:
        """Delete incidents by age and by number, then acknowledgements of what is gone; return their ids."""
        oldest_ns = self._clock.wall_ns() - self._keep_ns
        self._connection.execute("DELETE FROM incidents WHERE last_ns < ?", (oldest_ns,))
        self._connection.execute(_TOO_MANY, (self._max_incidents,))
        dropped = "DELETE FROM acks WHERE id NOT IN (SELECT id FROM incidents) RETURNING id"
        return {id_ for (id_,) in self._connection.execute(dropped).fetchall()}

    def _incidents(self, statement: str, *values: str) -> list[Incident]:
        rows = self._connection.execute(statement, values).fetchall()
        return [msgspec.json.decode(record, type=Incident) for (record,) in rows]

    def _place(self) -> Head:
        seq, sha256, size_bytes = self._connection.execute("SELECT seq, sha256, size_bytes FROM place").fetchone()
        return Head(seq, sha256, size_bytes)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _as(entry: Entry, shape: type[_T]) -> _T:
    try:
        return msgspec.convert(entry.body, type=shape)
    except msgspec.ValidationError as error:
        raise IntegrityError(f"line {entry.seq} of the alerts' journal is no {shape.__name__}: {error}") from error


def _is_damage(error: sqlite3.Error) -> bool:
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in codes


def _unavailable(path: Path, error: Exception) -> UnavailableError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return UnavailableError(f"the store of alerts {path} can't be used: {name}", next_step="restart the broker")
