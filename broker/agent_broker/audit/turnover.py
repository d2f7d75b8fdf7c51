"""Turning a journal over: its file becomes an older segment, and a new one goes on from its last line.

The law of this module, for a kill or a power loss at any step: the journal's own name always holds a whole segment,
whose first line is durable before it gets that name; no line is in two segments; what an unfinished step left behind is
removed at the next one. Older segments are removed only after the new segment, which says so, is durable.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import Struct

from agent_broker.audit.chain import KEEP_BOTH, Head, encode_body, encode_line
from agent_broker.audit.segments import CONTINUED, Continued, Limits, Segment, older_segments, segment_path
from agent_broker.disk import require_private, sync_folder
from agent_broker.errors import IntegrityError, UnavailableError

_NEXT: Final = ".next"


class OpenSegment(Struct, frozen=True):
    """The segment that is written; its writer holds the lock."""

    path: Path
    fd: int
    continued: Continued

    @classmethod
    def of(cls, path: Path, fd: int) -> Self:
        """Look at the segment that was opened and locked, and remove what an unfinished turn left beside it.

        Raises:
            UnavailableError: another process has just turned it over.
            OSError: as the disk says.
        """
        with Segment.open(path, str(path)) as segment:
            if not os.path.samestat(os.fstat(segment.file.fileno()), os.fstat(fd)):
                raise _other_writer(path)  # it was turned over between our opening it and our lock
            continued = Continued(segment.start, segment.kept_from)
        found = cls(path, fd, continued)
        _tidy(found)
        return found


def turn_over(segment: OpenSegment, head: Head, time_ns: int, limits: Limits) -> tuple[OpenSegment, Head]:
    """Begin the next segment after ``head``, remove the oldest ones; return it and its head. The old segment is closed.

    Raises:
        OSError: the disk refused, and the old segment is still the one that is written.
    """
    continued = Continued(head, _kept_from(segment, limits))
    line = encode_line(head, time_ns, CONTINUED, encode_body(CONTINUED, msgspec.to_builtins(continued)))
    following = segment.path.with_name(segment.path.name + _NEXT)
    following.unlink(missing_ok=True)
    fd = os.open(following, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    older, is_linked = segment_path(segment.path, head.seq), False
    try:
        lock(segment.path, fd)
        _write_durably(fd, line)
        os.link(segment.path, older)
        is_linked = True
        following.replace(segment.path)
        sync_folder(segment.path.parent)
    except BaseException:
        os.close(fd)
        if is_linked:
            older.replace(segment.path)  # nothing, if both are names of the old one still
            older.unlink(missing_ok=True)
        following.unlink(missing_ok=True)
        raise
    os.close(segment.fd)
    found = OpenSegment(segment.path, fd, continued)
    _tidy(found)
    return found, head.after(line)


def _write_durably(fd: int, line: bytes) -> None:
    if os.write(fd, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # why a regular file takes less than it is given
    os.fdatasync(fd)


def _kept_from(segment: OpenSegment, limits: Limits) -> Head:
    """Return where the oldest segment begins that is kept when this one has ended.

    Segments that are missing although nobody here removed them don't move it: they stay missed.
    """
    starts = [segment.continued.after]
    while len(starts) < max(limits.keep, 1) and starts[0].seq > segment.continued.kept_from.seq:
        try:
            with Segment.open(segment_path(segment.path, starts[0].seq), str(segment.path)) as older:
                starts.insert(0, older.start)
        except FileNotFoundError:
            return segment.continued.kept_from
    return starts[0]


def _tidy(segment: OpenSegment) -> None:
    """Remove segments that are not kept, and what an unfinished turn left; the next turn does what fails now."""
    with suppress(OSError):
        _remove_unneeded(segment)


def _remove_unneeded(segment: OpenSegment) -> None:
    segment.path.with_name(segment.path.name + _NEXT).unlink(missing_ok=True)
    for last_seq, path in older_segments(segment.path).items():
        is_unfinished = last_seq > segment.continued.after.seq and os.path.samestat(path.lstat(), os.fstat(segment.fd))
        if last_seq <= segment.continued.kept_from.seq or is_unfinished:
            path.unlink(missing_ok=True)


def open_private(path: Path, flags: int) -> int:
    """Open one of a journal's files.

    Raises:
        IntegrityError: it is missing, or others can read or write it.
        OSError: as the disk says.
    """
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


def lock(path: Path, fd: int) -> None:
    """Take a segment for this process, which it must be the journal's writer of.

    Raises:
        UnavailableError: another process writes it, or has just turned it over.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _other_writer(path) from error


def _other_writer(path: Path) -> UnavailableError:
    return UnavailableError(f"another process writes {path}", next_step="stop the other daemon")
