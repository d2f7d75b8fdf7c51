"""Reading on in a journal from where one stopped, while its writer is at work."""

from collections.abc import Iterator
from pathlib import Path

from agent_broker.audit.chain import MAX_LINE_BYTES, Entry, Head, decode_line
from agent_broker.audit.verification import is_at
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
            if place.seq and not is_at(file, place):
                raise OtherJournalError(f"{path} does not have the line {place.seq} that was read before")
            file.seek(place.size_bytes)
            while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                entry = decode_line(line, place, str(path))
                place = place.after(line)
                yield entry, place
    except OSError as error:
        raise UnavailableError(f"{path} can't be read: {error.strerror}") from error
