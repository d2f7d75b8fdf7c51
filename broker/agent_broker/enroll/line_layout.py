"""What a file of lines looks like to its editor: entries with the bytes of each, and the sections they are in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent_broker.enroll.pointer import Pointer, Value


@dataclass(frozen=True)
class Entry:
    """One member; offsets are bytes of the body."""

    path: Pointer
    start: int
    """Of its first line; of itself, if it is inside an inline table."""
    end: int
    """Behind its last line's end."""
    value_start: int
    value_end: int
    value: Value = field(repr=False)
    section: Pointer | None = ()
    """Of the section it is written in; None: one that is never addressed (of an array)."""
    inline: bool = False
    """It shares its line with others: it is inside an inline table."""


@dataclass(frozen=True)
class Section:
    """A header and what is below it; the root has an empty path and no header."""

    path: Pointer
    start: int
    """Of the header's line."""
    header_end: int
    """Behind the header's line."""
    place: int
    """Where a new entry's line goes."""
    stop: int
    """Where the next section begins."""


@dataclass(frozen=True)
class Layout:
    """A whole file."""

    entries: tuple[Entry, ...]
    sections: tuple[Section, ...]
    refused: Mapping[Pointer, str] = field(default_factory=dict)
    """What is there and must not be edited, with the line and the reason."""

    def entry(self, path: Pointer) -> Entry | None:
        """Return an entry, or None."""
        return next((entry for entry in self.entries if entry.path == path and entry.section is not None), None)

    def section(self, path: Pointer) -> Section | None:
        """Return a section, or None."""
        return next((section for section in self.sections if section.path == path), None)


def line_number(body: bytes, at: int) -> int:
    """Return the number of the line that an offset is in, from 1."""
    return body.count(b"\n", 0, at) + 1


def line_start(body: bytes, at: int) -> int:
    """Return where the line of an offset begins."""
    return body.rfind(b"\n", 0, at) + 1


def line_end(body: bytes, at: int) -> int:
    """Return the offset behind the end of the line that ``at`` is in."""
    end = body.find(b"\n", at)
    return len(body) if end < 0 else end + 1
