"""The hash-chained journal: what it took is on the disk, and what is on the disk can be told to be what it took.

The law of this module:

1. ``append`` returns when the entry is durable (fdatasync), or raises and the entry counts as not written.
2. Entries that are appended in one iteration of the event loop share one write and one fdatasync, in the order in
   which they were handed over. Between both lies one turn of the loop, in which the disk works already.
3. ``begin`` says of an entry that it is written (the process may die from then on, the machine not yet), gives way to
   whoever was told for GIVE_WAY_S, and makes it durable then (docs/adr/0010); at once, as above, if nobody was told.
4. Each line holds the hash of the line before it. The file ``NAME.head`` beside the journal holds number and hash of
   the last line; it is written after the journal is durable, but not itself synced at each entry.

What ``verify`` therefore detects: any line edited, added, moved or removed inside; the end cut off, down to the
last byte, while the machine stayed up. What it does not: an end cut off together with a matching older head; after a
power loss, an end cut off that is younger than what the disk had of the head (the kernel's write-back delay, 30 s by
default); and whoever may write both files (the broker's user, root) can write another, consistent history. Against
those, keep ``Verification.head`` or the lines elsewhere.

A line that was being written when the machine or the process died is an entry that nobody was told was written. It is
cut when the journal is opened, and an entry of kind ``journal-repaired`` says so. (If the line was whole, it stays: the
journal may hold an entry whose writer was told that it failed, never the reverse.)

A journal that has grown long is turned over, and its oldest segments are removed (``segments``, ``turnover``): the
chain goes on through all of them, and what anybody else removed is missed. If the disk refuses, it just grows on.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from agent_broker.audit.chain import EMPTY, HEAD_BYTES, KEEP_BOTH, Entry, Head, decode_head, encode_body, encode_line
from agent_broker.audit.segments import Limits, older_segments
from agent_broker.audit.turnover import OpenSegment, lock, open_private, turn_over
from agent_broker.audit.verification import Verification, head_path, read, recover, verify
from agent_broker.clock import Clock
from agent_broker.disk import replace_file, sync_folder
from agent_broker.errors import IntegrityError, UnavailableError

__all__ = ["Entry", "Journal", "Limits", "Verification", "read", "verify"]

REPAIRED: Final = "journal-repaired"
GIVE_WAY_S: Final = 0.001
"""From a follower's being told to the work of the disk: it would take the processor that the follower needs."""
DEFAULT_LIMITS: Final = Limits()
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    time_ns: int
    kind: str
    body: msgspec.Raw
    done: asyncio.Future[int] | None
    written: Callable[[], bool] | None = None


@dataclass(slots=True)
class _Batch:
    """Entries that are in the file and not durable yet, and the head once they are."""

    entries: list[_Waiting]
    head: Head


class Journal:
    """An open journal. One process writes it at a time (flock)."""

    def __init__(self, segment: OpenSegment, head_fd: int, head: Head, clock: Clock, limits: Limits) -> None:
        """See ``open``."""
        self._path = segment.path
        self._segment = segment
        self._fd = segment.fd
        self._head_fd = head_fd
        self._head = head
        self._clock = clock
        self._limits = limits
        self._complained_of = 0
        self._waiting: list[_Waiting] = []
        self._syncing: _Batch | None = None
        self._must_cut = False

    @classmethod
    def open(cls, path: Path, clock: Clock, limits: Limits = DEFAULT_LIMITS) -> "Journal":
        """Open a journal, or begin one; a torn end is cut, which an entry then says.

        Raises:
            IntegrityError: lines that were durable are missing or changed, or others can write the file.
            UnavailableError: another process writes it, or the disk refuses.
        """
        fds: list[int] = []
        journal: Journal | None = None
        try:
            _begin_if_new(path)
            fds.append(open_private(head_path(path), os.O_RDWR))
            fds.append(open_private(path, os.O_RDWR | os.O_APPEND))
            lock(path, fds[1])
            head, torn_bytes = recover(path, decode_head(os.pread(fds[0], HEAD_BYTES, 0), str(path)))
            journal = cls(OpenSegment.of(path, fds[1]), fds[0], head, clock, limits)
            journal._repair(torn_bytes)
        except BaseException as error:
            for fd in fds if journal is None else (journal._head_fd, journal._fd):
                os.close(fd)
            if isinstance(error, OSError):
                raise _refused(path, error) from error
            raise
        return journal

    @property
    def head(self) -> Head:
        """The last line that is durable."""
        return self._head

    async def append(self, kind: str, body: dict[str, Any]) -> int:
        """Append an entry and return its number when it is durable.

        Raises:
            MisuseError: the body is not JSON, or too long.
            UnavailableError: the disk refused; the entry counts as not written.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        entry = _Waiting(self._clock.wall_ns(), kind, encode_body(kind, body), done)
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append(entry)
        return await done

    def begin(self, kind: str, body: msgspec.Struct, written: Callable[[], bool]) -> "asyncio.Future[int]":
        """Append an entry; return what will be its number when it is durable.

        Args:
            kind: of the entry.
            body: of the entry.
            written: called when the entry is in the file, before it is durable; in here, if nothing is under way. If
                the disk then refuses, the entry is taken out again. Returns whether it told anybody. Must not raise.

        Raises:
            MisuseError: the body is not JSON, or too long.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(self._clock.wall_ns(), kind, encode_body(kind, body), done, written))
        self._commit()
        return done

    def append_now(self, kind: str, body: dict[str, Any]) -> int:
        """Append an entry, after all that wait, without giving way to the event loop. Otherwise as ``append``."""
        self._finish()
        self._waiting.append(_Waiting(self._clock.wall_ns(), kind, encode_body(kind, body), None))
        error = self._commit(here=True)
        if error is not None:
            raise error
        return self._head.seq

    def close(self) -> None:
        """Write what waits, make the head durable, release the file. Twice is fine.

        Raises:
            UnavailableError: the disk refused; what it did not take was told to its waiters.
        """
        if self._fd < 0:
            return
        self._finish()
        error = self._commit(here=True)
        try:
            os.fsync(self._head_fd)
        except OSError as sync_error:
            error = error or _refused(self._path, sync_error)
        os.close(self._fd)
        os.close(self._head_fd)
        self._fd = self._head_fd = -1
        if error is not None:
            raise error

    def _commit(self, *, here: bool = False) -> UnavailableError | None:
        """Write all that waits, make it durable (``here``, or a turn later); return what failed."""
        if self._syncing is not None:
            return None  # what waits follows once that is durable
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return None
        self._turn_over_if_long()
        head, lines = self._head, []
        for entry in waiting:
            lines.append(encode_line(head, entry.time_ns, entry.kind, entry.body))
            head = head.after(lines[-1])
        batch = _Batch(waiting, head)
        error = self._write(b"".join(lines))
        told = [each.written() for each in waiting if each.written is not None and error is None]
        if error is None and not here:
            self._syncing = batch
            self._sync_soon(batch, someone_was_told=any(told))
            return None
        return self._settle(batch, error or _sync(self._fd))

    def _sync_soon(self, batch: _Batch, *, someone_was_told: bool) -> None:
        loop = asyncio.get_running_loop()
        if someone_was_told:
            loop.call_later(GIVE_WAY_S, self._sync_next, batch)
        else:
            _begin_sync(self._fd, self._end_of(self._head), self._end_of(batch.head))
            loop.call_soon(self._sync_next, batch)

    def _settle(self, batch: _Batch, error: OSError | UnavailableError | None) -> UnavailableError | None:
        """Take a batch as durable, or take it back; tell the waiters; return what went wrong."""
        first = self._head.seq + 1
        if error is None:
            self._must_cut = False
            self._head = batch.head
            self._write_head()
        refused = self._not_written(error) if isinstance(error, OSError) else error
        for number, entry in enumerate(batch.entries, first):
            if entry.done is None or entry.done.done():
                continue
            if refused is None:
                entry.done.set_result(number)
            else:
                entry.done.set_exception(refused)
        return refused

    def _turn_over_if_long(self) -> None:
        """Begin the next segment before the next entry, if this one is long enough; if that can't be, go on with it."""
        start = self._segment.continued.after
        if self._fd < 0 or self._must_cut or self._head.size_bytes - start.size_bytes < self._limits.segment_bytes:
            return
        try:
            os.pwrite(self._head_fd, self._head.encode(), 0)
            os.fsync(self._head_fd)  # a head is never older than its segment
            self._segment, self._head = turn_over(self._segment, self._head, self._clock.wall_ns(), self._limits)
        except OSError as error:
            if self._complained_of != start.seq + 1:
                _LOG.warning("%s grows beyond its limit: %s", self._path, error.strerror)
            self._complained_of = start.seq + 1
            return
        self._fd = self._segment.fd
        self._write_head()

    def _write(self, data: bytes) -> OSError | UnavailableError | None:
        if self._fd < 0:
            return UnavailableError(f"{self._path} is closed")
        try:
            self._cut_if_needed()
            self._must_cut = True
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            return error
        return None

    def _sync_next(self, batch: _Batch) -> None:
        """Wait for the disk, and write what came meanwhile."""
        if self._syncing is batch:  # else it is settled: _finish
            self._finish()
            self._commit()

    def _finish(self) -> None:
        """Make durable what is written."""
        batch, self._syncing = self._syncing, None
        if batch is not None:
            self._settle(batch, _sync(self._fd))

    def _write_head(self) -> None:
        with suppress(OSError):  # the lines are durable already; an older head promises less, and nothing false
            os.pwrite(self._head_fd, self._head.encode(), 0)

    def _not_written(self, error: OSError) -> UnavailableError:
        """Take back what may have reached the file, now or, if the disk refuses that too, before the next write."""
        refused = _refused(self._path, error)
        refused.__cause__ = error
        try:
            self._cut_if_needed()
        except OSError:
            refused.add_note("what was half written is cut before the next entry")
        return refused

    def _cut_if_needed(self) -> None:
        if self._must_cut:
            os.ftruncate(self._fd, self._end_of(self._head))
            os.fdatasync(self._fd)
            self._must_cut = False

    def _end_of(self, head: Head) -> int:
        """Return where a line ends in this segment's file, in bytes."""
        return head.size_bytes - self._segment.continued.after.size_bytes

    def _repair(self, torn_bytes: int) -> None:
        if torn_bytes:
            self._must_cut = True
            self._cut_if_needed()
            self.append_now(REPAIRED, {"cut_bytes": torn_bytes, "why": "its writer died before the line was durable"})
        else:
            self._write_head()


def _begin_if_new(path: Path) -> None:
    """Make both files durable, the head first: a journal without a head was tampered with, so were segments alone."""
    if not os.path.lexists(path) and not os.path.lexists(head_path(path)) and older_segments(path):
        raise IntegrityError(f"{path} is missing while its older segments are not", next_step=KEEP_BOTH)
    if not os.path.lexists(path) and not os.path.lexists(head_path(path)):
        replace_file(head_path(path), EMPTY.encode())
    if not os.path.lexists(path) and head_path(path).read_bytes() == EMPTY.encode():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        sync_folder(path.parent)


def _begin_sync(fd: int, start: int, end: int) -> None:
    """Let the kernel begin to write these bytes, without waiting (mm/fadvise.c): fdatasync waits for the rest only.

    Measured on ext4 with 110 us of work in between: 60 us less to wait. Whatever goes wrong here, fdatasync finds out.
    """
    with suppress(OSError):
        os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_DONTNEED)


def _sync(fd: int) -> OSError | None:
    try:
        os.fdatasync(fd)
    except OSError as error:
        return error
    return None


def _refused(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path} can't be written: {error.strerror}",
        next_step="make room on the disk; until then nothing is released",
    )
