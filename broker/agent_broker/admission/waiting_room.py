"""Who asked too often waits for its "no": a flood that waits for answers is as slow as they are.

The law: every connection that was put in gets its answer and is closed, after ``HOLD_S``, or at once when more than
``MAX_HELD`` wait, the oldest first. Nothing is read from it, and nothing is looked up for it.
"""

import asyncio
import contextlib
import socket
from collections import deque
from typing import Final

HOLD_S: Final = 0.5
MAX_HELD: Final = 2048  # with one descriptor each
SEND_FLAGS: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
"""What is sent to a peer never waits for it. A number: joining named flags takes microseconds each time."""


class WaitingRoom:
    """See the module. Belongs to one event loop."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, socket.socket, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def put(self, connection: socket.socket, answer: bytes) -> None:
        """Take over a connection."""
        loop = asyncio.get_running_loop()
        self._held.append((loop.time() + HOLD_S, connection, answer))
        if len(self._held) > MAX_HELD:
            self._answer_oldest()
        if self._timer is None:
            self._timer = loop.call_later(HOLD_S, self._answer_due)

    def close(self) -> None:
        """Answer all at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._held:
            self._answer_oldest()

    def _answer_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._held and self._held[0][0] <= loop.time():
            self._answer_oldest()
        self._timer = loop.call_at(self._held[0][0], self._answer_due) if self._held else None

    def _answer_oldest(self) -> None:
        _due, connection, answer = self._held.popleft()
        turn_away(connection, answer)


def turn_away(connection: socket.socket, answer: bytes) -> None:
    """Answer a connection and close it, whatever its peer does; never waits."""
    with connection, contextlib.suppress(OSError):  # it is gone, or takes nothing
        connection.send(answer, SEND_FLAGS)
