"""Incidents as lines of JSON in a file, each an OCSF event, for whatever collects files.

The law of this module: a line is durable (fdatasync) before it counts as delivered; the file and its older ones
(``NAME.1`` is the youngest) never take more than ``max_bytes`` each; nobody else but root could have put a file or a
link where we write. A line that was half written when the machine died is cut off: it was not delivered.
"""

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from agent_broker.disk import sync_folder
from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.monitor.incident import Incident

MODE: Final = 0o640
_BLOCK_BYTES = 1 << 16


class JsonLines:
    """Implements sinks.port.Sink on a file."""

    def __init__(  # noqa: PLR0913 - what an operator may set
        self,
        path: Path,
        *,
        severity: str,
        max_bytes: int,
        keep: int,
        mapping: Callable[[Incident, int], dict[str, Any]],
        name: str = "ocsf",
    ) -> None:
        """Touch nothing yet.

        Args:
            path: of the file; absolute.
            severity: see Sink.
            max_bytes: of one file.
            keep: how many older files are kept, at least one.
            mapping: what makes an event of an incident and its number.
            name: see Sink.
        """
        self.name = name
        self.severity = severity
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._mapping = mapping
        self._writing = threading.Lock()

    async def deliver(self, incident: Incident, number: int) -> None:
        """See Sink."""
        line = msgspec.json.encode(self._mapping(incident, number)) + b"\n"
        if len(line) > self._max_bytes:
            raise RefusedError("sink", f"an incident of {len(line)} bytes is longer than its file may be")
        try:
            await asyncio.to_thread(self._append, line)
        except OSError as error:
            raise UnavailableError(
                f"{self._path} can't be written: {error.strerror}",
                next_step="make room on the disk; the folder must be the broker's or root's, writable by nobody else",
            ) from error

    async def close(self) -> None:
        """Nothing is held open."""

    def _append(self, line: bytes) -> None:
        if not self._writing.acquire(blocking=False):  # nobody waits any more for a line that the disk still takes
            raise UnavailableError(f"an earlier line is still being written to {self._path}")
        try:
            self._append_alone(line)
        finally:
            self._writing.release()

    def _append_alone(self, line: bytes) -> None:
        require_safe_folder(self._path.parent)
        fd = self._open()
        try:
            size = _cut_torn_end(fd)
            if size and size + len(line) > self._max_bytes:
                os.close(fd)
                fd = -1
                self._rotate()
                fd = self._open()
            self._write(fd, line)
        finally:
            if fd >= 0:
                os.close(fd)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(self._path, flags, MODE)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_nlink != 1:
            os.close(fd)
            raise UnavailableError(f"{self._path} is not a file of the broker's own", next_step="move it away")
        if stat.S_IMODE(facts.st_mode) != MODE:
            os.fchmod(fd, MODE)
        return fd

    @staticmethod
    def _write(fd: int, line: bytes) -> None:
        """What is half written when the disk refuses is cut off before the next line."""
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fdatasync(fd)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if os.path.lexists(older):
                older.replace(self._numbered(number))
        sync_folder(self._path.parent)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def require_safe_folder(folder: Path) -> None:
    """Let pass a folder in which, up to the root, only root and this process's user can replace names.

    Raises:
        UnavailableError: another user could put a file or a link there.
        OSError: it is not there.
    """
    for each in (folder, *folder.parents):
        facts = each.lstat()
        is_others = facts.st_uid not in {0, os.geteuid()}
        is_open = bool(facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not facts.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(facts.st_mode) or is_others or is_open:
            raise UnavailableError(
                f"{each} must be a folder that only root or the broker's user can write",
                next_step="choose another [alerts.ocsf] path",
            )


def _cut_torn_end(fd: int) -> int:
    """Cut what follows the last newline; return the file's size then."""
    size = end = os.fstat(fd).st_size
    while end:
        start = max(0, end - _BLOCK_BYTES)
        place = os.pread(fd, end - start, start).rfind(b"\n")
        if place >= 0:
            end = start + place + 1
            break
        end = start
    if end != size:
        os.ftruncate(fd, end)
    return end
