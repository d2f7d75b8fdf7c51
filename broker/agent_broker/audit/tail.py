"""Reading on in a journal from where one stopped, while its writer is at work."""

from collections.abc import Iterator
from pathlib import Path

from agent_broker.audit.chain import Entry, Head, decode_line
from agent_broker.audit.segments import lines_after, oldest_place, unreadable
from agent_broker.audit.verification import ends_with
from agent_broker.errors import IntegrityError


class OtherJournalError(IntegrityError):
    """The journal does not have the line where the reader stopped: it is another one, or was cut."""


def entries_after(path: Path, place: Head) -> Iterator[tuple[Entry, Head]]:
    """Yield each complete entry after ``place``, checked against the line before it, and the place after it.

    Nothing read before (``chain.EMPTY``) means: from the oldest entry that is kept. A line that is being written ends
    the iteration; call again.

    Raises:
        OtherJournalError: the line that ends at ``place`` is not there, or not kept any more.
        IntegrityError: a line after it is not what was written.
        UnavailableError: it can't be read.
    """
    try:
        if not ends_with(path, place):
            raise OtherJournalError(f"{path} does not have the line {place.seq} that was read before")
        if not place.seq:
            place = oldest_place(path)
        for line in lines_after(path, place):
            if not line.endswith(b"\n"):
                return
            entry = decode_line(line, place, str(path))
            place = place.after(line)
            yield entry, place
    except OSError as error:
        raise unreadable(path, error) from error
