"""Reading a journal: for people, for ``audit verify``, and once when its writer opens it.

What is found and what is not: ``journal``'s docstring.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from agent_broker.audit.chain import HEAD_BYTES, KEEP_BOTH, Entry, Head, cut_short, decode_head, decode_line
from agent_broker.audit.segments import GoneError, Segment, segment_at, segment_path, segments, unreadable
from agent_broker.errors import IntegrityError
from agent_broker.ids import Sha256


class Verification(Struct, frozen=True):
    """A journal without a fault."""

    entries: int
    """That are there."""
    head: Sha256
    """Of the last line; 64 zeros if there is none. Kept elsewhere, it proves this history later."""
    unfinished_bytes: int
    """Of a line at the end that is being written, or was when its writer died; nobody was told it was written."""
    first: int = 1
    """Number of the first entry; above 1, the segments before it were removed by the journal's writer."""
    segments: int = 1
    """Files that hold them."""


def verify(path: Path) -> Verification:
    """Check every line of a journal, in all its segments; its writer may be at work.

    Raises:
        IntegrityError: the first line that is not what was written, an end that was cut off (module's docstring), or
            a segment that its writer did not remove and that is not there.
        UnavailableError: it can't be read.
    """
    with ExitStack() as stack:
        remembered = _remembered_head(path)  # before the segments: what it remembers must be in them
        found = segments(path, stack)
        _require_all_that_is_kept(path, found)
        head, unfinished = found[0].start, b""
        first, met = head.seq + 1, head == remembered
        for segment in found:
            if segment.start != head:
                raise _gap(path, segment)
            for line in segment.lines(head.size_bytes):
                if not line.endswith(b"\n"):
                    unfinished = line
                    break
                decode_line(line, head, str(path))
                head = head.after(line)
                met = met or head == remembered
    if not met:
        raise cut_short(str(path), remembered)
    return Verification(head.seq - first + 1, head.sha256, len(unfinished), first, len(found))


def read(path: Path, *, after: int = 0) -> Iterator[Entry]:
    """Yield the entries with a number above ``after`` that are kept, each checked against the line before it.

    Parts that end before them are not looked at.

    Raises:
        IntegrityError: at the first line that is not what was written.
        UnavailableError: it can't be read.
    """
    with ExitStack() as stack:
        found = segments(path, stack, down_to=after)
        head = found[0].start
        for segment in found:
            if segment.start != head:
                raise _gap(path, segment)
            for line in segment.lines(head.size_bytes):
                if not line.endswith(b"\n"):
                    return
                entry = decode_line(line, head, str(path))
                head = head.after(line)
                if entry.seq > after:
                    yield entry


def recover(path: Path, remembered: Head) -> tuple[Head, int]:
    """Return the true head of a journal that nobody writes, and how many bytes after it are a torn end.

    Up to what the head remembers everything was durable: a fault there was not an accident of writing.

    Raises:
        IntegrityError: the line that the head remembers is missing or changed.
        UnavailableError: it can't be read.
    """
    with ExitStack() as stack:
        segment = stack.enter_context(_active(path))
        if not segment.holds(remembered):
            raise cut_short(str(path), remembered)
        head = remembered
        for line in segment.lines(head.size_bytes):
            try:
                if not line.endswith(b"\n"):
                    break
                decode_line(line, head, str(path))
            except IntegrityError:
                break
            head = head.after(line)
        return head, segment.start.size_bytes + segment.size_bytes - head.size_bytes


def ends_with(path: Path, head: Head) -> bool:
    """Tell whether the line that ``head`` remembers stands where it was; what follows it is not looked at.

    Raises:
        IntegrityError: the journal is missing.
        UnavailableError: it can't be read.
    """
    if not head.seq:
        return True
    try:
        with segment_at(path, head.size_bytes) as segment:
            return segment.holds(head)
    except GoneError:
        return False
    except FileNotFoundError as error:
        raise _missing(path) from error


def head_path(path: Path) -> Path:
    """Return where a journal's head lies."""
    return path.with_name(path.name + ".head")


def _active(path: Path) -> Segment:
    try:
        return Segment.open(path, str(path))
    except FileNotFoundError as error:
        raise _missing(path) from error


def _remembered_head(path: Path) -> Head:
    try:
        with head_path(path).open("rb") as file:
            text = os.pread(file.fileno(), HEAD_BYTES, 0)
            while text != (again := os.pread(file.fileno(), HEAD_BYTES, 0)):
                text = again  # its writer was just at it
    except FileNotFoundError as error:
        raise _missing(head_path(path)) from error
    except OSError as error:
        raise unreadable(head_path(path), error) from error
    return decode_head(text, str(path))


def _require_all_that_is_kept(path: Path, found: list[Segment]) -> None:
    oldest = found[0].start.seq
    if oldest > found[-1].kept_from.seq:
        raise IntegrityError(
            f"{segment_path(path, oldest)} is missing, and the journal's writer did not remove it: "
            f"the lines up to {oldest} are not there",
            next_step="put it back if you moved it; otherwise find out who could have removed it",
        )


def _gap(path: Path, segment: Segment) -> IntegrityError:
    return IntegrityError(
        f"{path}: the line {segment.start.seq + 1} begins a segment that does not go on from the one before it: "
        "the journal was changed",
        next_step=KEEP_BOTH,
    )


def _missing(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} is missing", next_step=KEEP_BOTH)
