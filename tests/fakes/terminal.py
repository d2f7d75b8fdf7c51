"""A person at a terminal who answers each question."""

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

PATIENCE_S = 120
_QUESTION = b"[y/N]:"


class SilentError(AssertionError):
    """Nothing more came from the command, and it did not end."""


def at_terminal(
    command: Sequence[object], answer: Callable[[int], bytes], environment: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Run a command in a terminal of its own; return its exit status and all that it said.

    ``answer`` is given a question's number, from one, and gives what is typed. What is typed before the program reads
    its terminal may be thrown away, so an answer that is not echoed is given again.
    """
    ours, theirs = pty.openpty()
    words = ["/usr/bin/setsid", "--ctty", *map(str, command)]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        said = _converse(ours, answer)
        return process.wait(PATIENCE_S), said
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _converse(terminal: int, answer: Callable[[int], bytes]) -> bytes:
    said = b""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        ready, _, _ = select.select([terminal], [], [], 0.5)
        if not ready and said.rstrip().endswith(_QUESTION):  # an answer is echoed
            os.write(terminal, answer(said.count(_QUESTION)))
        if not ready:
            continue
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # how a terminal ends
            return said
        said += chunk
        end_s = time.monotonic() + PATIENCE_S
    raise SilentError(f"nothing more was said: {said[-2000:]!r}")


def hides_what_is_typed(terminal: int) -> bool:
    """Tell whether the echo is off: a program that asks for a secret throws away what is typed before."""
    return not termios.tcgetattr(terminal)[3] & termios.ECHO
