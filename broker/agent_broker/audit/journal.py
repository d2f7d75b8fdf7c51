"""The hash-chained journal: what it took is on the disk, and what is on the disk can be told to be what it took.

The law of this module:

1. ``append`` returns when the entry is durable (fdatasync), or raises and the entry counts as not written.
2. Entries that are appended in one iteration of the event loop share one write and one fdatasync, in the order in
   which they were handed over.
3. Each line holds the hash of the line before it. The file ``NAME.head`` beside the journal holds number and hash of
   the last line; it is written after the journal is durable, but not itself synced at each entry.

What ``verify`` therefore detects: any line edited, added, moved or removed inside; the end cut off, down to the
last byte, while the machine stayed up. What it does not: an end cut off together with a matching older head; after a
power loss, an end cut off that is younger than what the disk had of the head (the kernel's write-back delay, 30 s by
default); and whoever may write both files (the broker's user, root) can write another, consistent history. Against
those, keep ``Verification.head`` or the lines elsewhere.

A line that was being written when the machine or the process died is an entry that nobody was told was written. It is
cut when the journal is opened, and an entry of kind ``journal-repaired`` says so. (If the line was whole, it stays: the
journal may hold an entry whose writer was told that it failed, never the reverse.)
"""

import asyncio
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from agent_broker.audit.chain import EMPTY, HEAD_BYTES, KEEP_BOTH, Entry, Head, decode_head, encode_body, encode_line
from agent_broker.audit.verification import Verification, head_path, read, recover, verify
from agent_broker.clock import Clock
from agent_broker.disk import replace_file, require_private, sync_folder
from agent_broker.errors import IntegrityError, UnavailableError

__all__ = ["Entry", "Journal", "Verification", "read", "verify"]

REPAIRED: Final = "journal-repaired"


@dataclass(slots=True)
class _Waiting:
    time_ns: int
    kind: str
    body: msgspec.Raw
    done: asyncio.Future[int] | None


class Journal:
    """An open journal. One process writes it at a time (flock)."""

    def __init__(self, path: Path, fd: int, head_fd: int, head: Head, clock: Clock) -> None:
        """See ``open``."""
        self._path = path
        self._fd = fd
        self._head_fd = head_fd
        self._head = head
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._must_cut = False

    @classmethod
    def open(cls, path: Path, clock: Clock) -> "Journal":
        """Open a journal, or begin one; a torn end is cut, which an entry then says.

        Raises:
            IntegrityError: lines that were durable are missing or changed, or others can write the file.
            UnavailableError: another process writes it, or the disk refuses.
        """
        fds: list[int] = []
        try:
            _begin_if_new(path)
            fds.append(_open(head_path(path), os.O_RDWR))
            fds.append(_open(path, os.O_RDWR | os.O_APPEND))
            _lock(path, fds[1])
            head, torn_bytes = recover(path, decode_head(os.pread(fds[0], HEAD_BYTES, 0), str(path)))
            journal = cls(path, fds[1], fds[0], head, clock)
            journal._repair(torn_bytes)
        except BaseException as error:
            for fd in fds:
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

    def append_now(self, kind: str, body: dict[str, Any]) -> int:
        """Append an entry, after all that wait, without giving way to the event loop. Otherwise as ``append``."""
        self._waiting.append(_Waiting(self._clock.wall_ns(), kind, encode_body(kind, body), None))
        error = self._commit()
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
        error = self._commit()
        try:
            os.fsync(self._head_fd)
        except OSError as sync_error:
            error = error or _refused(self._path, sync_error)
        os.close(self._fd)
        os.close(self._head_fd)
        self._fd = self._head_fd = -1
        if error is not None:
            raise error

    def _commit(self) -> UnavailableError | None:
        """Write all that waits, tell the waiters, and return what went wrong."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return None
        head, lines = self._head, []
        for entry in waiting:
            lines.append(encode_line(head, entry.time_ns, entry.kind, entry.body))
            head = head.after(lines[-1])
        first = self._head.seq + 1
        error = self._write(b"".join(lines), head)
        for number, entry in enumerate(waiting, first):
            if entry.done is None or entry.done.done():
                continue
            if error is None:
                entry.done.set_result(number)
            else:
                entry.done.set_exception(error)
        return error

    def _write(self, data: bytes, head: Head) -> UnavailableError | None:
        if self._fd < 0:
            return UnavailableError(f"{self._path} is closed")
        try:
            self._cut_if_needed()
            self._must_cut = True
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fdatasync(self._fd)
            self._must_cut = False
        except OSError as error:
            return self._not_written(error)
        self._head = head
        self._write_head()
        return None

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
            os.ftruncate(self._fd, self._head.size_bytes)
            os.fdatasync(self._fd)
            self._must_cut = False

    def _repair(self, torn_bytes: int) -> None:
        if torn_bytes:
            self._must_cut = True
            self._cut_if_needed()
            self.append_now(REPAIRED, {"cut_bytes": torn_bytes, "why": "its writer died before the line was durable"})
        else:
            self._write_head()


def _begin_if_new(path: Path) -> None:
    """Make both files durable, the head first: a journal without a head was tampered with."""
    if not os.path.lexists(path) and not os.path.lexists(head_path(path)):
        replace_file(head_path(path), EMPTY.encode())
    if not os.path.lexists(path) and head_path(path).read_bytes() == EMPTY.encode():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        sync_folder(path.parent)


def _open(path: Path, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing while the file beside it is not", next_step=KEEP_BOTH) from error
    try:
        require_private(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(path: Path, fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UnavailableError(f"another process writes {path}", next_step="stop the other daemon") from error


def _refused(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path} can't be written: {error.strerror}",
        next_step="make room on the disk; until then nothing is released",
    )
