"""Open files with real content: which process opened each, and as what it was attested then."""

import errno
import itertools
import os
from typing import Final

from agent_broker.identity.evidence import Freshness
from agent_broker.view.content import Blob, Content
from agent_broker.view.process import Process

MAX_HANDLES: Final = 4096


class Handle:
    """One open file. Holds its process by pidfd until it is closed."""

    def __init__(self, content: Content, blob: Blob, process: Process, freshness: Freshness, flags: int) -> None:
        self.content = content
        self.blob = blob
        self.process = process
        self.freshness = freshness
        self.flags = flags


class Handles:
    """All of them, by number; 0 is none."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._handles: dict[int, Handle] = {}

    def find(self, number: int) -> Handle | None:
        """Return one; None: it is closed, or was never."""
        return self._handles.get(number)

    def add(self, handle: Handle) -> int:
        """Keep one and return its number.

        Raises:
            OSError: ENFILE: there are too many.
        """
        if len(self._handles) >= MAX_HANDLES:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        number = next(self._numbers)
        self._handles[number] = handle
        return number

    def take(self, number: int) -> Handle | None:
        """Forget one and return it."""
        return self._handles.pop(number, None)

    def close(self) -> None:
        """Forget all."""
        for handle in self._handles.values():
            handle.process.close()
        self._handles.clear()
