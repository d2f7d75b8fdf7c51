"""The sockets over which our processes are asked things: made as ever, and kept, so that a test can grow impatient."""

import socket


class Channels:
    """Stands for ``socket.socketpair`` while a test lasts."""

    def __init__(self, monkeypatch) -> None:
        self._made: list[socket.socket] = []
        self._make = socket.socketpair
        monkeypatch.setattr(socket, "socketpair", self._pair)

    def grow_impatient(self) -> None:
        """From now on the newest one's answers may take a moment: until now, as long as a busy machine needs."""
        self._made[-1].settimeout(0.3)

    def _pair(self, *kind: int) -> tuple[socket.socket, socket.socket]:
        ours, theirs = self._make(*kind)
        self._made.append(ours)
        return ours, theirs
