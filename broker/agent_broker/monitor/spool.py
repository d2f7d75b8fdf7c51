"""The monitor's own durable memory: incidents that the broker has not stored yet.

The law:
1. An incident that ``append`` took is written when it returns, so that this process's death loses nothing, and on the
   disk when ``sync`` returned or the broker has it; or it is counted as dropped.
2. The spool is bounded. When it is full the newest is dropped, not the oldest: whoever floods it can't push out the
   evidence of what came before. Drops are counted on the disk, and told.
3. A newer revision of an incident that is still here replaces it, and goes to the end of the line; the broker gets it
   with a sequence of its own, whether it was sent the older one or not. It needs no room of its own.
4. A crash in the middle of a write loses at most the incident that was being written; its torn line is cut.
5. A line that is none in the middle was no crash: the file is set aside as it is (``incidents.damaged``), every line
   that is an incident is kept, and ``damage`` says so, for an incident of its own. A monitor that would not start for
   it would leave everything unwatched.

Format: one JSON line an entry, ``{"sequence": n, "incident": {...}}``; the file ``acknowledged`` holds the highest
sequence that the broker has stored and the number of drops. Both are root's alone.
"""

import asyncio
import errno
import logging
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.disk import replace_file
from agent_broker.errors import UnavailableError
from agent_broker.monitor.incident import Incident

MAX_INCIDENTS: Final = 4096
_COMPACT_AT: Final = 256  # acknowledged lines in the file that make a rewrite worth it


_LOG = logging.getLogger(__name__)


class Entry(Struct, frozen=True):
    """One incident and its place in the order."""

    sequence: int
    incident: Incident


class _Mark(Struct, frozen=True):
    acknowledged: int = 0
    dropped: int = 0


class Spool:
    """See the module. One process has it; not thread-safe.

    Attributes:
        damage: a sentence, if the file was damaged when it was opened; else empty.
    """

    def __init__(self, folder: Path, *, limit: int = MAX_INCIDENTS) -> None:
        """Open the spool and read what is in it.

        Raises:
            UnavailableError: the disk refuses.
        """
        self.damage = ""
        self._limit = limit
        self._file = folder / "incidents"
        self._mark_file = folder / "acknowledged"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._mark = _read_mark(self._mark_file)
            self._entries: dict[str, Entry] = {}
            entries, damaged = _read(self._file)
            if damaged:
                self.damage = _set_aside(self._file, damaged)
            for each in entries:
                if each.sequence > self._mark.acknowledged:
                    self._put(each)
            self._last = max([self._mark.acknowledged, *(each.sequence for each in self._entries.values())])
            self._stale = 0
            self._fd = -1
            self._rewrite()
        except OSError as error:
            raise _disk(folder, error) from error

    @property
    def dropped(self) -> int:
        """Incidents that found no room, ever."""
        return self._mark.dropped

    def unacknowledged(self) -> tuple[Entry, ...]:
        """Return what the broker has not stored yet, in order."""
        return tuple(self._entries.values())

    def append(self, incident: Incident) -> Entry | None:
        """Keep an incident, or a newer revision of one; None: there was no room, and it was counted.

        Raises:
            UnavailableError: the disk refuses; the incident is kept in memory only (``unacknowledged`` has it).
        """
        older = self._entries.get(incident.id)
        if older is not None and older.incident.revision >= incident.revision:
            return older
        if older is None and len(self._entries) >= self._limit:
            self._set_mark(_Mark(self._mark.acknowledged, self._mark.dropped + 1))
            return None
        self._last += 1
        entry = Entry(self._last, incident)
        self._put(entry)
        try:
            self._write(_line(entry))
            if older is not None:
                self._shrink(1)
        except OSError as error:
            raise _disk(self._file, error) from error
        return entry

    async def sync(self) -> None:
        """Make everything that was appended durable, in a thread: a slow disk must not blind the monitor.

        Raises:
            UnavailableError: the disk refuses.
        """
        fd = os.dup(self._fd)  # the file may be rewritten meanwhile
        try:
            await asyncio.to_thread(os.fdatasync, fd)
        except OSError as error:
            raise _disk(self._file, error) from error
        finally:
            os.close(fd)

    def acknowledge(self, sequence: int) -> None:
        """Forget everything up to and including a sequence.

        Raises:
            UnavailableError: the disk refuses; after a restart the broker gets them again, and knows their ids.
        """
        gone = [key for key, each in self._entries.items() if each.sequence <= sequence]
        if not gone:
            return
        for key in gone:
            del self._entries[key]
        self._set_mark(_Mark(min(sequence, self._last), self._mark.dropped))
        try:
            self._shrink(len(gone))
        except OSError as error:
            raise _disk(self._file, error) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _put(self, entry: Entry) -> None:
        """Take an entry in as the last one, in the place of an older revision."""
        self._entries.pop(entry.incident.id, None)
        self._entries[entry.incident.id] = entry

    def _shrink(self, stale: int) -> None:
        """Count lines that are not needed any more; rewrite the file if they are many."""
        self._stale += stale
        if self._stale >= _COMPACT_AT:
            self._rewrite()

    def _write(self, line: bytes) -> None:
        size_bytes = os.fstat(self._fd).st_size
        try:
            _write_all(self._fd, line)
        except OSError:
            os.ftruncate(self._fd, size_bytes)
            raise

    def _rewrite(self) -> None:
        temporary = self._file.with_suffix(".new")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _write_all(fd, b"".join(_line(each) for each in self._entries.values()))
            os.fdatasync(fd)
            temporary.replace(self._file)
        except OSError:  # the old file stands, and is still written to
            os.close(fd)
            raise
        self.close()
        self._fd = fd
        _sync_folder(self._file.parent)
        self._stale = 0

    def _set_mark(self, mark: _Mark) -> None:
        self._mark = mark
        temporary = self._mark_file.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(mark))
            temporary.replace(self._mark_file)
        except OSError as error:
            raise _disk(self._mark_file, error) from error


def _write_all(fd: int, data: bytes) -> None:
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # why a regular file takes only a part


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


def _read_mark(path: Path) -> _Mark:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Mark)
    except FileNotFoundError:
        return _Mark()
    except msgspec.DecodeError:  # torn by a power loss: all is told again, and the broker knows it by its ids
        _LOG.warning("%s is damaged: nothing counts as acknowledged or dropped", path)
        return _Mark()


def _read(path: Path) -> tuple[list[Entry], list[int]]:
    """Return the entries of the file, and the numbers of the lines that are none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    lines.pop()  # behind the last newline: nothing, or what a crash tore
    entries, damaged = [], []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(msgspec.json.decode(line, type=Entry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            damaged.append(number)
    return entries, damaged


def _set_aside(path: Path, damaged: list[int]) -> str:
    """Keep a damaged file as it is, in the place of an earlier one; return what to say of it."""
    aside = path.with_suffix(".damaged")
    replace_file(aside, path.read_bytes())
    which = f"line {damaged[0]}" if len(damaged) == 1 else f"{len(damaged)} lines, the first is {damaged[0]}"
    return f"the monitor's spool was damaged ({which}); the file as it was is {aside}, all other incidents were kept"


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _disk(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path}: {error.strerror}", next_step="make room on the disk")
