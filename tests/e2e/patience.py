"""Waiting for what daemons do in their own time."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60


def until(condition: Callable[[], T]) -> T:
    """Return what ``condition`` says once it is true, or in the end."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()) and time.monotonic() < end:
        threading.Event().wait(0.05)
    return found


def listens(place: Path | int) -> bool:
    """Tell whether somebody listens on a socket's path (its file is there a moment before), or a port of loopback."""
    unix = isinstance(place, Path)
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
        return probe.connect_ex(str(place) if unix else ("127.0.0.1", place)) == 0
