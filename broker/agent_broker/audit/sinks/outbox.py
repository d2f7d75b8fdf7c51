"""What one sink has still to get: a cursor into the alert log, and nothing else.

The law of this module:

1. The incidents' only home is the alert log (``audit.alerts``). A sink keeps the place up to which it is done: the
   number, hash and end of that line, so that reading on continues the log's hash chain. That makes 256 bytes a sink,
   however much waits, and the order is the log's.
2. The cursor moves after the receiver took an incident, never before: nothing is lost, and a broker that is killed
   delivers at most the one again that was in flight. It is written with one pwrite(2) that is not synced: it survives
   the process. A power loss may bring an older cursor back (the kernel's write-back delay, 30 s by default), never a
   newer one than the log's, so what was delivered since may come again, under the same numbers.
3. What waits is bounded: when more than ``capacity`` entries of the log wait, the oldest are passed over and counted.
4. Nothing is read that the log has not yet promised to be durable.
5. A sink that is enabled for the first time begins with what comes then. A cursor that does not fit the log (the log
   was moved away, or the file was damaged) begins at the log's first line: twice is better than never.
6. What the log does not keep any more (``audit.segments``) counts as dropped.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.audit.alerts import KIND as INCIDENT
from agent_broker.audit.chain import MAX_LINE_BYTES, Entry, Head, decode_line
from agent_broker.audit.segments import GoneError, Segment, oldest_place, segment_at
from agent_broker.audit.sinks.port import is_wanted
from agent_broker.audit.verification import ends_with
from agent_broker.disk import replace_file, require_private
from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.monitor.incident import Incident

CURSOR_BYTES: Final = 256  # below a disk's sector: a power loss leaves the old one or the new one
_STRIDE = 64  # lines that are passed over before others get a turn

_LOG = logging.getLogger(__name__)


class Cursor(Struct, frozen=True):
    """How far a sink is."""

    head: Head
    """Of the last line that it is done with."""
    numbered: int = 0
    """Incidents that were delivered or dropped."""
    dropped: int = 0

    def encode(self) -> bytes:
        """Return CURSOR_BYTES bytes, so that a newer cursor always covers an older one."""
        return msgspec.json.encode(self).ljust(CURSOR_BYTES - 1) + b"\n"


class Waiting(Struct, frozen=True):
    """The next incident, until ``Outbox.done`` or ``Outbox.drop`` was called with it."""

    incident: Incident
    number: int
    after: Head
    """The log's head once this one is done."""


class Outbox:
    """One sink's. All methods belong to one event loop."""

    def __init__(self, path: Path, fd: int, log: Path, cursor: Cursor) -> None:
        """See ``open``."""
        self._path = path
        self._fd = fd
        self._log = log
        self._cursor = cursor
        self._place = cursor.head  # what was passed over since needs no write of its own
        self._segment: Segment | None = None

    @classmethod
    def open(cls, path: Path, log: Path, head: Head) -> "Outbox":
        """Open a sink's cursor, or begin one at the log's present end.

        Args:
            path: of the cursor.
            log: the alert log.
            head: its end.

        Raises:
            IntegrityError: others can write the cursor's file.
            UnavailableError: the disk refuses.
        """
        try:
            if not os.path.lexists(path):
                replace_file(path, Cursor(head).encode())
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                require_private(path, os.fstat(fd))
                cursor = _fitting(os.pread(fd, CURSOR_BYTES, 0), path, log, head)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise _refused(path, error) from error
        return cls(path, fd, log, cursor)

    @property
    def cursor(self) -> Cursor:
        """How far the sink is."""
        return self._cursor

    def backlog(self, head: Head) -> int:
        """Return how many entries of the log wait; those that the sink does not want among them."""
        return max(0, head.seq - self._place.seq)

    async def next(self, head: Head, severity: str) -> Waiting | None:
        """Return the next incident of at least ``severity``; None if none waits up to the log's ``head``.

        Raises:
            IntegrityError: the log is not what was written.
            UnavailableError: it can't be read.
        """
        passed = 0
        while self._place.size_bytes < head.size_bytes:
            entry, after = self._read()
            incident = incident_of(entry, severity)
            if incident is not None:
                return Waiting(incident, self._cursor.numbered + 1, after)
            self._pass_over(after)
            passed += 1
            if passed % _STRIDE == 0:
                await asyncio.sleep(0)
        return None

    async def trim(self, head: Head, severity: str, capacity: int) -> int:
        """Pass over the oldest until at most ``capacity`` entries wait; return how many incidents that dropped.

        Raises:
            IntegrityError, UnavailableError: as ``next``.
        """
        dropped = passed = 0
        while self.backlog(head) > capacity:
            entry, after = self._read()
            dropped += incident_of(entry, severity) is not None
            self._pass_over(after)
            passed += 1
            if passed % _STRIDE == 0:
                await asyncio.sleep(0)
        if dropped:
            cursor = self._cursor
            self._move(Cursor(self._place, cursor.numbered + dropped, cursor.dropped + dropped))
        return dropped

    def done(self, waiting: Waiting) -> None:
        """Remember that an incident was delivered.

        Raises:
            UnavailableError: the disk refused; it counts as done for as long as this process lives.
        """
        self._pass_over(waiting.after)
        self._move(Cursor(waiting.after, waiting.number, self._cursor.dropped))

    def drop(self, waiting: Waiting) -> None:
        """Remember that an incident was given up. Raises as ``done``."""
        self._pass_over(waiting.after)
        self._move(Cursor(waiting.after, waiting.number, self._cursor.dropped + 1))

    def close(self) -> None:
        """Make the cursor durable and let go of the files. Twice is fine."""
        if self._fd < 0:
            return
        try:
            self._move(msgspec.structs.replace(self._cursor, head=self._place))
            os.fsync(self._fd)
        except (OSError, UnavailableError) as error:
            _LOG.warning("%s is not durable: %s", self._path, error)
        os.close(self._fd)
        self._fd = -1
        self._leave_segment()

    def _read(self) -> tuple[Entry, Head]:
        """Return the entry after the present place, and the log's head with it; reading again gives it again."""
        try:
            line = self._line()
            if not line:  # the segment that it was in was turned over, and has no more
                self._leave_segment()
                line = self._line()
        except GoneError:
            self._pass_removed()
            return self._read()
        except OSError as error:
            raise _refused(self._log, error) from error
        return decode_line(line, self._place, str(self._log)), self._place.after(line)

    def _line(self) -> bytes:
        if self._segment is None:
            self._segment = segment_at(self._log, self._place.size_bytes)
        file, offset = self._segment.file, self._place.size_bytes - self._segment.start.size_bytes
        if file.tell() != offset:
            file.seek(offset)
        return file.readline(MAX_LINE_BYTES)

    def _leave_segment(self) -> None:
        if self._segment is not None:
            self._segment.file.close()
            self._segment = None

    def _pass_removed(self) -> None:
        """Count what the log does not keep any more as dropped: all of it, since nobody can look at it."""
        oldest, cursor = oldest_place(self._log), self._cursor
        lost = oldest.seq - self._place.seq
        _LOG.warning("%s: %d entries are not kept any more and were dropped", self._path, lost)
        self._pass_over(oldest)
        self._move(Cursor(oldest, cursor.numbered + lost, cursor.dropped + lost))

    def _pass_over(self, after: Head) -> None:
        self._place = after

    def _move(self, cursor: Cursor) -> None:
        self._cursor = cursor
        try:
            os.pwrite(self._fd, cursor.encode(), 0)
        except OSError as error:
            raise _refused(self._path, error) from error


def incident_of(entry: Entry, severity: str) -> Incident | None:
    """Return the incident of an entry of the alert log; None if it is something else, or less severe."""
    if entry.kind != INCIDENT:
        return None
    try:
        incident = msgspec.convert(entry.body, type=Incident)
    except msgspec.ValidationError as error:
        raise IntegrityError(f"the alert log's line {entry.seq} is not an incident") from error
    return incident if is_wanted(incident, severity) else None


def _fitting(text: bytes, path: Path, log: Path, head: Head) -> Cursor:
    """Return the cursor if it fits the log, else one at the log's first line."""
    oldest = oldest_place(log)
    try:
        cursor = msgspec.json.decode(text, type=Cursor)
    except (msgspec.DecodeError, UnicodeDecodeError):
        _LOG.warning("%s is damaged: the sink begins again at the first incident", path)
        return Cursor(oldest)
    is_removed = cursor.head.seq < oldest.seq and cursor.head.size_bytes < oldest.size_bytes  # counted when it is read
    if cursor.head.seq <= head.seq and (is_removed or ends_with(log, cursor.head)):
        return cursor
    _LOG.warning("%s is not of this alert log: the sink begins at its first incident", path)
    return Cursor(oldest, cursor.numbered, cursor.dropped)


def _refused(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path}: {error.strerror}", next_step="check the disk's space and the folder's owner")
