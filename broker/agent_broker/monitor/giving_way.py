"""The thread that openers wait for makes way for others while somebody opens the same file over and over.

The law: it has the daemon's precedence (privilege.take_precedence), so that a first open is looked at without delay.
Once it has answered REPEATS of what was done a moment ago within WINDOW_S, it is as ordinary as the processes that wait
for it; in the first look after a window that was quieter it is what it was. So whoever opens a marked file in a loop
waits for himself: with precedence, his opens took the processor from everybody who waits for the broker.
"""

import contextlib
import os
import time
from collections.abc import Callable

REPEATS = 250
WINDOW_S = 0.25
ORDINARY = 0
"""The niceness of a process that nobody gave another one."""


class GivingWay:
    """See the module. Made and used in the thread that it is about."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        niceness: Callable[[], int] = lambda: os.getpriority(os.PRIO_PROCESS, 0),
        be: Callable[[int], None] = lambda niceness: os.setpriority(os.PRIO_PROCESS, 0, niceness),
    ) -> None:
        """Take the precedence that the thread has now as its own.

        Args:
            now_s: a clock that never goes back.
            niceness: says the calling thread's (on Linux each has one of its own: setpriority(2), NOTES).
            be: sets it; may raise OSError: then it stays what it is.
        """
        self._now_s, self._be = now_s, be
        self._own = niceness()
        self._gave_way = False
        self._began_s, self._repeats = now_s(), 0

    def answered(self, repeats: int) -> None:
        """Take how many openers were answered, since the last call, who did what they had done a moment ago."""
        elapsed_s = self._now_s() - self._began_s
        if elapsed_s >= WINDOW_S:
            was_quiet = self._repeats < REPEATS or elapsed_s >= 2 * WINDOW_S
            if self._gave_way and was_quiet:
                self._set(gave_way=False)
            self._began_s, self._repeats = self._began_s + elapsed_s, 0
        self._repeats += repeats
        if self._repeats >= REPEATS and not self._gave_way and self._own < ORDINARY:
            self._set(gave_way=True)

    def _set(self, *, gave_way: bool) -> None:
        self._gave_way = gave_way
        with contextlib.suppress(OSError):
            self._be(ORDINARY if gave_way else self._own)
