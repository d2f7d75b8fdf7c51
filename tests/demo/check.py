"""What a step expects, and how its failure is told: what was expected, and what was seen instead."""

import time
from collections.abc import Callable
from typing import TypeVar

_POLL_S = 0.02
T = TypeVar("T")


class StepFailedError(Exception):
    """A step did not hold."""

    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected = expected
        self.seen = str(seen)


def require(holds: object, expected: str, seen: object) -> None:
    """Raise StepFailedError unless ``holds``."""
    if not holds:
        raise StepFailedError(expected, seen)


def eventually(probe: Callable[[], T | None], expected: str, within_s: float, seen: Callable[[], object] = str) -> T:
    """Return the first true answer of ``probe``, asked again and again.

    Args:
        probe: returns something false, or raises OSError, as long as it is not time yet.
        expected: for the failure.
        within_s: seconds after which it is one.
        seen: asked for what is there instead, when it failed.
    """
    end_s = time.monotonic() + within_s
    while True:
        problem: object = ""
        try:
            found = probe()
        except OSError as error:
            found, problem = None, error
        if found:
            return found
        if time.monotonic() > end_s:
            raise StepFailedError(f"{expected}, within {within_s:g} s", seen() or problem or "nothing")
        time.sleep(_POLL_S)
