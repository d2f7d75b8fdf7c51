"""Waiting for what daemons do in their own time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60


def until(condition: Callable[[], T]) -> T:
    """Return what ``condition`` says once it is true, or in the end."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()) and time.monotonic() < end:
        threading.Event().wait(0.05)
    return found
