"""Accepts connections, a few at a time: a flood of them takes its turns between everything else that is to be done.

Who is let in is the callback's to say. It runs in the event loop and must be quick. Where connections are kept, and
most of those that came had to be turned away or took somebody's place, the door rests for a multiple of what they cost:
they wait in the kernel's queue, and those who are in are answered meanwhile.
"""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import Final

_LOG: Final = logging.getLogger(__name__)

_SLICE_S: Final = 0.0003  # of accepting, before others get their turn: dozens of those that are turned away at once
REST_TIMES: Final = 3  # a flood gets no more than a quarter of the loop's time
_PAUSE_S: Final = 0.1  # after the system ran out of descriptors or memory
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Door:
    """One listening socket. Open from ``open`` until ``close``."""

    def __init__(
        self,
        listener: socket.socket,
        admit: Callable[[socket.socket], bool],
        make_room: Callable[[], None],
        *,
        rest_times: int = 0,
    ) -> None:
        """Take over ``listener``.

        Args:
            listener: bound and listening; closed with the door.
            admit: takes a connection, and closes it some time; returns whether there was a free place for it.
            make_room: gives a connection up, because descriptors or memory have run out.
            rest_times: how many times as long as it accepted a flood it rests. 0 where every question is a new
                connection: a rest would keep those waiting whom it should serve.
        """
        self._listener = listener
        self._listener.settimeout(0)
        self._admit = admit
        self._make_room = make_room
        self._rest_times = rest_times

    def open(self) -> None:
        """Begin to accept, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._listener, self._accept_some)

    def close(self) -> None:
        """Accept no more; harmless if it is closed."""
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()

    def _accept_some(self) -> None:
        begin_s = time.monotonic()
        balance = 0
        while time.monotonic() < begin_s + _SLICE_S:
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._make_room_after(error)
                    return
                continue  # this one connection ended before it was taken
            connection.settimeout(0)
            balance += 1 if self._admit(connection) else -1
        if balance < 0 and self._rest_times:
            self._rest(self._rest_times * (time.monotonic() - begin_s))

    def _make_room_after(self, error: OSError) -> None:
        """The listener stays readable while nothing can be accepted: don't spin on it, make room."""
        _LOG.error("no connection can be accepted: %s", error.strerror)
        self._make_room()
        self._rest(_PAUSE_S)

    def _rest(self, rest_s: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        loop.call_later(rest_s, self._resume)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self.open()
