"""Reading on in a journal from where one stopped, while its writer is at work."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from agent_broker.audit.chain import MAX_LINE_BYTES, Entry, Head, decode_line, digest_of
from agent_broker.errors import IntegrityError, UnavailableError


class OtherJournalError(IntegrityError):
    """The journal does not have the line where the reader stopped: it is another one, or was cut."""


def entries_after(path: Path, place: Head) -> Iterator[tuple[Entry, Head]]:
    """Yield each complete entry after ``place``, checked against the line before it, and the place after it.

    A line that is being written ends the iteration; call again.

    Raises:
        OtherJournalError: the line that ends at ``place`` is not there.
        IntegrityError: a line after it is not what was written.
        UnavailableError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            _require_place(file, path, place)
            file.seek(place.size_bytes)
            while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                entry = decode_line(line, place, str(path))
                place = place.after(line)
                yield entry, place
    except OSError as error:
        raise UnavailableError(f"{path} can't be read: {error.strerror}") from error


def _require_place(file: BinaryIO, path: Path, place: Head) -> None:
    if not place.seq:
        return
    start = max(0, place.size_bytes - MAX_LINE_BYTES)
    block = os.pread(file.fileno(), place.size_bytes - start, start)
    last = block[block[:-1].rfind(b"\n") + 1 :]
    if len(block) != place.size_bytes - start or not last.endswith(b"\n") or digest_of(last) != place.sha256:
        raise OtherJournalError(f"{path} does not have the line {place.seq} that was read before")
