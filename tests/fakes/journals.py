"""A journal in a test's folder, that can be closed and opened again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_broker.audit.journal import Journal, read
from agent_broker.clock import Clock


@contextmanager
def reopening(path: Path, clock: Clock) -> Iterator[Callable[[], Journal]]:
    """Yield a function that opens the journal, after closing it if it is open."""
    opened: list[Journal] = []

    def again() -> Journal:
        while opened:
            opened.pop().close()
        opened.append(Journal.open(path, clock))
        return opened[-1]

    try:
        yield again
    finally:
        while opened:
            opened.pop().close()


def head_of(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def bodies(path: Path) -> list[dict[str, object]]:
    return [entry.body for entry in read(path)]


def write(journal: Journal, count: int, first: int = 0) -> list[int]:
    return [journal.append_now("test", {"number": number}) for number in range(first, first + count)]
