"""The person's terminal, lent to an agent: a terminal of its own, and bytes carried to and fro.

The agent never gets the person's terminal itself, which would let it type into the person's shell. Three times Ctrl-C
within two seconds end the login, whatever the agent makes of them.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from agent_broker.errors import MisuseError

_CHUNK_BYTES = 1 << 16
_CTRL_C = 3
_TIMES, _WITHIN_S = 3, 2.0


class LentTerminal:
    """A pseudo-terminal; ``slave_fd`` is for the agent, whoever takes it closes it."""

    def __init__(self) -> None:
        """Make it.

        Raises:
            MisuseError: there is no terminal to lend.
        """
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise MisuseError("a login needs a terminal", next_step="run it in one, not in a pipe")
        self._stdin, self._stdout = sys.stdin.fileno(), sys.stdout.fileno()
        self._master, self.slave_fd = os.openpty()
        self._interrupts: list[float] = []
        self._resize()

    def hand_over(self, done: socket.socket) -> None:
        """Carry bytes until ``done`` can be read, and what is left then.

        Raises:
            KeyboardInterrupt: the person, or a signal, ends it.
        """
        with _raw(self._stdin), _signals(self._resize):
            readable = [self._stdin, self._master, done.fileno()]
            while True:
                for fd in select.select(readable, [], [])[0]:
                    if fd == done.fileno():
                        self._drain()
                        return
                    if not (self._type() if fd == self._stdin else self._show()):
                        readable.remove(fd)

    def close(self) -> None:
        """End the agent's terminal."""
        os.close(self._master)

    def _type(self) -> bool:
        typed = os.read(self._stdin, _CHUNK_BYTES)
        now_s = time.monotonic()
        recent = [each for each in self._interrupts if each > now_s - _WITHIN_S]
        self._interrupts = [*recent, *[now_s] * typed.count(_CTRL_C)]
        if len(self._interrupts) >= _TIMES:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError):  # nobody listens any more
            _write(self._master, typed)
        return bool(typed)

    def _show(self) -> bool:
        try:
            shown = os.read(self._master, _CHUNK_BYTES)
        except OSError:  # EIO: nobody has the other side open
            return False
        _write(self._stdout, shown)
        return bool(shown)

    def _drain(self) -> None:
        while select.select([self._master], [], [], 0)[0] and self._show():
            pass

    def _resize(self) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self._stdin, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _signals(resize: Callable[[], None]) -> Iterator[None]:
    """Let what would end this process end it tidily."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def resized(_number: int, _frame: FrameType | None) -> None:
        resize()

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGWINCH: resized}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
