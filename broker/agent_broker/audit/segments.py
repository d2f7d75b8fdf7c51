"""The segments of a journal: ``NAME`` is written, ``NAME.000000012345`` are older, named by their last line's number.

The law of this module:

1. A segment that goes on from another begins with an entry of kind ``journal-continued``. It follows the last line of
   the segment before (``prev``), and says which that was, so the chain of hashes goes through all segments, and each
   can be read by itself.
2. That entry also says where the oldest segment begins that was kept then. Older ones were removed by the journal's
   writer, and any other one that is missing was not (``verification.verify``).
3. ``Head.size_bytes`` counts the bytes of all segments, the removed ones too: a place in a journal stays a place when
   the journal is turned over.
4. A reader needs nobody's leave: whatever is turned over or removed meanwhile, it sees each line once, in order, or
   ``GoneError``.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec
from msgspec import Struct

from agent_broker.audit.chain import EMPTY, KEEP_BOTH, MAX_LINE_BYTES, Entry, Head, digest_of
from agent_broker.errors import IntegrityError, UnavailableError

CONTINUED: Final = "journal-continued"
_DIGITS: Final = 12


class Limits(Struct, frozen=True):
    """How large a journal grows."""

    segment_bytes: int = 16 << 20
    """A segment that has as many is turned over before the next entry."""
    keep: int = 64
    """Older segments; the oldest beyond that is removed. At least one."""


class Continued(Struct, frozen=True):
    """The body of a segment's first entry."""

    after: Head
    """The end of the segment before."""
    kept_from: Head
    """Where the oldest segment begins that is kept from now on."""


class GoneError(IntegrityError):
    """A segment of the journal is not there any more."""


class Segment:
    """An open segment of a journal."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read where an open file begins; ``name`` is the journal's, for messages."""
        self.file = file
        continued = _continued(file)
        self.start = EMPTY if continued is None else continued.after
        """The head of all lines before it."""
        self.kept_from = EMPTY if continued is None else continued.kept_from
        self._name = name

    @classmethod
    def open(cls, path: Path, name: str) -> Self:
        """Open a segment.

        Raises:
            FileNotFoundError: it is not there.
            UnavailableError: it can't be read.
        """
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            return cls(file, name)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def size_bytes(self) -> int:
        """Of the file, now."""
        return os.fstat(self.file.fileno()).st_size

    def holds(self, place: Head) -> bool:
        """Tell whether the line that ends at ``place`` ends here, or is the last one before this segment."""
        if place == self.start:
            return True
        end = place.size_bytes - self.start.size_bytes
        if end <= 0:
            return False
        start = max(0, end - MAX_LINE_BYTES)
        block = os.pread(self.file.fileno(), end - start, start)
        last = block[block[:-1].rfind(b"\n") + 1 :]
        return len(block) == end - start and last.endswith(b"\n") and digest_of(last) == place.sha256

    def lines(self, size_bytes: int) -> Iterator[bytes]:
        """Yield the lines after so many bytes of all segments; the last one may have no newline yet."""
        try:
            self.file.seek(size_bytes - self.start.size_bytes)
            while line := self.file.readline(MAX_LINE_BYTES):
                yield line
        except OSError as error:
            raise unreadable(Path(self._name), error) from error


def segment_path(path: Path, last_seq: int) -> Path:
    """Return where the older segment lies whose last line has this number."""
    return path.with_name(f"{path.name}.{last_seq:0{_DIGITS}}")


def older_segments(path: Path) -> dict[int, Path]:
    """Return the older segments that lie beside a journal, by the number of their last line, the oldest first."""
    found = {}
    for each in path.parent.iterdir():
        number = each.name.removeprefix(f"{path.name}.")
        if each.name != number and len(number) >= _DIGITS and number.isascii() and number.isdigit():
            found[int(number)] = each
    return dict(sorted(found.items()))


def segments(path: Path, stack: ExitStack, *, down_to: int = 0) -> list[Segment]:
    """Open the segments of a journal that are there, the oldest first; ``stack`` closes them.

    Args:
        path: of the journal.
        stack: what they are left with.
        down_to: segments whose lines all have this number or a lower one are not needed.

    Raises:
        IntegrityError: the journal is missing.
        UnavailableError: it can't be read.
    """
    while True:
        with ExitStack() as opened:
            found = _walk_back(path, opened, down_to)
            if _is_same(path, found[-1].file):  # else it was turned over, and the oldest may be gone
                stack.enter_context(opened.pop_all())
                return found


def segment_at(path: Path, size_bytes: int) -> Segment:
    """Open the segment with the line that begins after so many bytes of all segments; the caller closes it.

    Raises:
        FileNotFoundError: there is no journal.
        GoneError: that segment was removed.
        UnavailableError: it can't be read.
    """
    found = Segment.open(path, str(path))
    while size_bytes < found.start.size_bytes:
        found.file.close()
        try:
            found = Segment.open(segment_path(path, found.start.seq), str(path))
        except FileNotFoundError as error:
            raise GoneError(f"the segment of {path} that was to be read next is not kept any more") from error
    return found


def oldest_place(path: Path) -> Head:
    """Return the place before the oldest line that is kept.

    Raises:
        IntegrityError, UnavailableError: as ``segments``.
    """
    with ExitStack() as stack:
        return segments(path, stack)[0].start


def lines_after(path: Path, place: Head) -> Iterator[bytes]:
    """Yield the raw lines after ``place``, across segments, until there is no more; the last may have no newline yet.

    Raises:
        FileNotFoundError: there is no journal.
        GoneError: the segment with the first of them was removed.
        UnavailableError: it can't be read.
    """
    size_bytes = place.size_bytes
    while True:
        before = size_bytes
        with segment_at(path, size_bytes) as segment:
            is_last = _is_same(path, segment.file)
            for line in segment.lines(size_bytes):
                size_bytes += len(line)
                yield line
        if is_last or size_bytes == before:
            return


def _walk_back(path: Path, stack: ExitStack, down_to: int) -> list[Segment]:
    try:
        found = [stack.enter_context(Segment.open(path, str(path)))]
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing", next_step=KEEP_BOTH) from error
    while (last := found[0].start.seq) > down_to:
        try:
            found.insert(0, stack.enter_context(Segment.open(segment_path(path, last), str(path))))
        except FileNotFoundError:
            break
    return found


def unreadable(path: Path, error: OSError) -> UnavailableError:
    """Return the error of a journal that the disk does not give."""
    return UnavailableError(f"{path} can't be read: {error.strerror}")


def _is_same(path: Path, file: BinaryIO) -> bool:
    """Tell whether an open segment is the one that is written. Ask before it is read: one that ended is whole."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return True


def _continued(file: BinaryIO) -> Continued | None:
    """Return what a segment goes on from; None: it is a journal's first one. A line that lies breaks the chain."""
    line = file.readline(MAX_LINE_BYTES)
    file.seek(0)
    try:
        entry = msgspec.json.decode(line, type=Entry)
        if entry.kind != CONTINUED:
            return None
        continued = msgspec.convert(entry.body, type=Continued)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None
    return continued if (entry.seq, entry.prev) == (continued.after.seq + 1, continued.after.sha256) else None
