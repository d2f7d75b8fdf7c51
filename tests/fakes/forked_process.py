"""The processes that act as a user, forked from one that is warm instead of started: the same from then on.

Starting Python costs more than all that such a process is asked, and forking the test costs as much as it has grown;
so a small process with everything imported forks them. What an exec would give them it gives them by hand: no
environment, no descriptor but those named (under the same numbers), a session of their own. How they are really
started, other tests try.
"""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest

_PID_BYTES = 20
_CALLERS = ("agent_broker.enroll.user_channel", "agent_broker.enroll.inventory")

alive: dict[int, int] = {}
"""Pid to pidfd of those that were forked for this process, and that it has not waited for."""


class Forked:
    """What subprocess.Popen is to its callers."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        alive[pid] = pidfd

    def wait(self, timeout: float | None = None) -> None:
        if self.pid not in alive:
            return
        ended = select.poll()
        ended.register(alive[self.pid], select.POLLIN)
        if not ended.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired("forked", timeout or 0)
        os.close(alive.pop(self.pid))

    def kill(self) -> None:
        if self.pid in alive:
            _kill(alive[self.pid])


def kill_all() -> None:
    """Kill every process that acts as the user for this one."""
    for pidfd in alive.values():
        _kill(pidfd)


def _kill(pidfd: int) -> None:
    with suppress(ProcessLookupError):  # it has ended
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


class Forker:
    """Asks the warm process. The end of a socket that a killed child of the test may go on using."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def start(self, module: str, theirs: socket.socket, fds: Iterable[int] = ()) -> Forked:
        """See other_process.start."""
        with theirs:
            numbers = [theirs.fileno(), *fds]
            socket.send_fds(self._channel, [msgspec.msgpack.encode((module, numbers))], numbers)
            pid, (pidfd,), _, _ = socket.recv_fds(self._channel, _PID_BYTES, 1)
            return Forked(int(pid), pidfd)

    def replace_starting(self, patch: pytest.MonkeyPatch) -> None:
        """Until the end of the test."""
        for caller in _CALLERS:
            patch.setattr(f"{caller}.start", self.start)


@contextmanager
def forker() -> Iterator[Forker]:
    """Start the warm process, and end it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        code = "import runpy, sys; runpy.run_path(sys.argv[1])['serve'](int(sys.argv[2]))"
        command = [sys.executable, "-I", "-c", code, __file__.replace("forked", "warm"), str(theirs.fileno())]
        warm = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        theirs.close()
        try:
            yield Forker(ours)
        finally:
            ours.close()
            warm.wait()
