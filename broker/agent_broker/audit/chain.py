"""The lines of a journal and the head beside it: pure bytes in, entries out.

A line is one JSON object and a newline. ``prev`` is the SHA-256 of the line before, without its newline, so a line that
was edited, removed, added or moved breaks the chain at the line after it. ``head`` remembers the last line, so the end
of the chain is held too (see ``journal`` for what that is worth).
"""

import hashlib
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.ids import Sha256

MAX_LINE_BYTES: Final = 1 << 20
MAX_KIND_BYTES: Final = 64
HEAD_BYTES: Final = 160  # far below a disk's sector, so a power loss leaves the old one or the new one
FIRST_PREV: Final = Sha256("0" * 64)
"""``prev`` of the first line."""


class Entry(Struct, frozen=True):
    """One line."""

    seq: int
    """From 1, without gaps."""
    time_ns: int
    """CLOCK_REALTIME, when the entry was handed over."""
    kind: str
    body: dict[str, Any]
    prev: Sha256


class Head(Struct, frozen=True):
    """A place in a journal: its last line before it, and how many bytes all lines have up to and with that one."""

    seq: int
    sha256: Sha256
    size_bytes: int
    """In all segments of the journal together (``segments``)."""

    def encode(self) -> bytes:
        """Return HEAD_BYTES bytes, so that a newer head always covers an older one."""
        return msgspec.json.encode(self).ljust(HEAD_BYTES - 1) + b"\n"

    def after(self, line: bytes) -> "Head":
        """Return the head once ``line`` (with its newline) is the last one."""
        return Head(self.seq + 1, digest_of(line), self.size_bytes + len(line))


EMPTY: Final = Head(0, FIRST_PREV, 0)


def encode_line(head: Head, time_ns: int, kind: str, body: msgspec.Raw) -> bytes:
    """Return the line that follows ``head``."""
    parts = {"seq": head.seq + 1, "time_ns": time_ns, "kind": kind, "body": body, "prev": head.sha256}
    return msgspec.json.encode(parts) + b"\n"


def encode_body(kind: str, body: dict[str, Any] | Struct) -> msgspec.Raw:
    """Return a body as JSON.

    Raises:
        MisuseError: it is not JSON, or longer than a line may be; or the kind is not a short ASCII word.
    """
    if not kind.isascii() or not 0 < len(kind) <= MAX_KIND_BYTES:
        raise MisuseError(f"the kind of an entry is an ASCII word of at most {MAX_KIND_BYTES} bytes")
    try:
        text = msgspec.json.encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MisuseError(f"the body of a {kind} entry is not JSON: {error}") from error
    if len(text) > MAX_LINE_BYTES - 512:
        raise MisuseError(f"the body of a {kind} entry has {len(text)} bytes; a line ends at {MAX_LINE_BYTES}")
    return msgspec.Raw(text)


def decode_line(line: bytes, head: Head, name: str) -> Entry:
    """Return the entry of the line that follows ``head``.

    Args:
        line: with its newline.
        head: of the lines before it.
        name: the journal, for the message.

    Raises:
        IntegrityError: the line is not the one that was written there; it names the line.
    """
    number = head.seq + 1
    try:
        entry = msgspec.json.decode(line, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _broken(name, number, "is not an entry") from None  # the cause would quote the line
    if entry.seq != number:
        raise _broken(name, number, f"has the number {entry.seq}")
    if entry.prev != head.sha256:
        raise _broken(name, number, "does not follow the line before it")
    return entry


def decode_head(text: bytes, name: str) -> Head:
    """Return the head that a file holds.

    Raises:
        IntegrityError: it is not one.
    """
    try:
        return msgspec.json.decode(text, type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"the head beside {name} is not readable, so nobody can tell whether {name} was cut short",
            next_step=KEEP_BOTH,
        ) from error


def digest_of(line: bytes) -> Sha256:
    """Return what the next line's ``prev`` is."""
    return Sha256(hashlib.sha256(line.removesuffix(b"\n")).hexdigest())


def cut_short(name: str, head: Head) -> IntegrityError:
    """Return the error of a journal that ends before its head, or has another line there."""
    return IntegrityError(
        f"{name} does not have the line {head.seq} that its head remembers: lines were removed or changed",
        next_step=KEEP_BOTH,
    )


KEEP_BOTH: Final = (
    "keep the journal, its .head and its older segments as evidence: move them all away; "
    "a new journal is begun at the next start"
)


def _broken(name: str, number: int, what: str) -> IntegrityError:
    return IntegrityError(f"{name}:{number}: this line {what}: the journal was changed", next_step=KEEP_BOTH)
