"""A process of our own at the other end of a socket: how it is started, and how it is ended at once.

It gets nothing of this process but the socket and the descriptors that are named: no environment, no folder, no
terminal. What is said over the socket is framed as in framing.
"""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterable

from agent_broker.errors import UnavailableError

END_S = 5.0
"""How long the end of such a process is waited for."""


def start(
    module: str, theirs: socket.socket, fds: Iterable[int] = (), *, keeps_stderr: bool = False
) -> "subprocess.Popen[bytes]":
    """Start a module of ours with the socket's descriptor as its argument; ``theirs`` is closed here.

    In a session of its own: Ctrl-C is for this side, which rolls back.

    Args:
        module: what is run.
        theirs: its end of the socket.
        fds: further descriptors that it gets, under the same numbers.
        keeps_stderr: it may print errors.

    Raises:
        UnavailableError: no process could be started.
    """
    command = [sys.executable, "-I", "-m", module, str(theirs.fileno())]
    with theirs:
        try:
            return subprocess.Popen(
                command,
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if keeps_stderr else subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *fds),
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"no process could be started: {error.strerror}") from error


def end_at_once(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that has nothing to finish. One that hangs in the kernel ends when that lets it go."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
