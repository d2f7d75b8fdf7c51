"""Reading a journal: for people, for ``audit verify``, and once when its writer opens it.

What is found and what is not: ``journal``'s docstring.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from agent_broker.audit.chain import (
    EMPTY,
    HEAD_BYTES,
    KEEP_BOTH,
    MAX_LINE_BYTES,
    Entry,
    Head,
    cut_short,
    decode_head,
    decode_line,
    digest_of,
)
from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.ids import Sha256


class Verification(Struct, frozen=True):
    """A journal without a fault."""

    entries: int
    head: Sha256
    """Of the last line; 64 zeros if there is none. Kept elsewhere, it proves this history later."""
    unfinished_bytes: int
    """Of a line at the end that is being written, or was when its writer died; nobody was told it was written."""


def verify(path: Path) -> Verification:
    """Check every line of a journal; its writer may be at work.

    Raises:
        IntegrityError: the first line that is not what was written, or an end that was cut off (module's docstring).
        UnavailableError: it can't be read.
    """
    remembered, head, unfinished = _remembered_head(path), EMPTY, b""
    met = remembered == EMPTY
    with _opened(path) as file:
        for line in _lines(file):
            if not line.endswith(b"\n"):
                unfinished = line
                break
            decode_line(line, head, str(path))
            head = head.after(line)
            met = met or head == remembered
    if not met:
        raise cut_short(str(path), remembered)
    return Verification(head.seq, head.sha256, len(unfinished))


def read(path: Path, *, after: int = 0) -> Iterator[Entry]:
    """Yield the entries with a number above ``after``, each checked against the line before it.

    Raises:
        IntegrityError: at the first line that is not what was written.
        UnavailableError: it can't be read.
    """
    head = EMPTY
    with _opened(path) as file:
        for line in _lines(file):
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
    head = remembered
    with _opened(path) as file:
        if remembered.seq and not is_at(file, remembered):
            raise cut_short(str(path), remembered)
        file.seek(remembered.size_bytes)
        for line in _lines(file):
            try:
                if not line.endswith(b"\n"):
                    break
                decode_line(line, head, str(path))
            except IntegrityError:
                break
            head = head.after(line)
        return head, os.fstat(file.fileno()).st_size - head.size_bytes


def ends_with(path: Path, head: Head) -> bool:
    """Tell whether the line that ``head`` remembers stands where it was; what follows it is not looked at.

    Raises:
        IntegrityError: the journal is missing.
        UnavailableError: it can't be read.
    """
    if not head.seq:
        return True
    with _opened(path) as file:
        return is_at(file, head)


def is_at(file: BinaryIO, head: Head) -> bool:
    """Tell whether the line that ``head`` remembers ends where it did, in an open journal; the position stays."""
    start = max(0, head.size_bytes - MAX_LINE_BYTES)
    block = os.pread(file.fileno(), head.size_bytes - start, start)
    last = block[block[:-1].rfind(b"\n") + 1 :]
    return len(block) == head.size_bytes - start and last.endswith(b"\n") and digest_of(last) == head.sha256


def _lines(file: BinaryIO) -> Iterator[bytes]:
    try:
        while line := file.readline(MAX_LINE_BYTES):
            yield line
    except OSError as error:
        raise UnavailableError(f"{file.name} can't be read: {error.strerror}") from error


def _remembered_head(path: Path) -> Head:
    with _opened(head_path(path)) as file:
        text = os.pread(file.fileno(), HEAD_BYTES, 0)
        while text != (again := os.pread(file.fileno(), HEAD_BYTES, 0)):
            text = again  # its writer was just at it
    return decode_head(text, str(path))


def head_path(path: Path) -> Path:
    """Return where a journal's head lies."""
    return path.with_name(path.name + ".head")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing", next_step=KEEP_BOTH) from error
    except OSError as error:
        raise UnavailableError(f"{path} can't be read: {error.strerror}") from error
