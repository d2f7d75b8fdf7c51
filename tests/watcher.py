"""Watches a pytest process from outside: names what takes long, kills what hangs for good, says what was left undone.

    python watcher.py PID AGAIN_S < PIPE

Detaches itself. Each line of the pipe is ``runs TEST``, ``limit SECONDS``, ``over TEST``, ``failed TEST`` or ``end``,
with a tab between the words. What it has to say goes to the standard error it was started with.
It ends with the process.
"""

import contextlib
import os
import select
import signal
import sys
import time

LONG_S = 60
LOOK_S = 5
LAST_CHANCES = 5
"""That many times the timer rang in vain: the process no longer returns to Python."""


class Watcher:
    """What is known of the process."""

    def __init__(self, pid: int, again_s: float) -> None:
        self._pid, self._again_s = pid, again_s
        self._test, self._since_s, self._limit_s = "", 0.0, 0.0
        self._named = self._killed = False
        self._failed: list[str] = []
        self._rest = b""
        self.has_ended = False

    def read(self, told: int) -> None:
        """Take all that was told by now."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(told, 1 << 16):
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    self._take(line.decode(errors="replace"))

    def _take(self, line: str) -> None:
        word, _, rest = line.partition("\t")
        match word:
            case "runs":
                self._test, self._since_s, self._limit_s, self._named = rest, time.monotonic(), 0.0, False
            case "limit":
                self._limit_s = float(rest)
            case "over":
                if self._named:
                    self._say(f"{rest} is over, after {time.monotonic() - self._since_s:.0f} s")
                self._test = ""
            case "failed":
                self._failed.append(rest)
            case "end":
                self.has_ended = True

    def look(self) -> None:
        """Called every few seconds."""
        if not self._test or self._killed:
            return
        took_s = time.monotonic() - self._since_s
        if took_s > LONG_S and not self._named:
            self._named = True
            self._say(f"{self._test} has run for {took_s:.0f} s")
        if self._limit_s and took_s > self._limit_s + LAST_CHANCES * self._again_s:
            self._killed = True
            self._say(f"{self._test} hangs for good: pytest is killed")
            os.kill(self._pid, signal.SIGABRT)  # faulthandler shows where it is

    def sum_up(self) -> None:
        """The process is gone: what it can't say any more."""
        if self.has_ended:
            return
        for each in self._failed:
            self._say(f"FAILED {each}")
        self._say(f"pytest was killed; it ran {self._test or 'no test'}")

    def _say(self, text: str) -> None:
        os.write(2, f"\n[watcher of {self._pid}] {text}\n".encode())


def main() -> None:
    """Watch until the process is gone."""
    pid, again_s = int(sys.argv[1]), float(sys.argv[2])
    process = os.pidfd_open(pid)
    if os.fork():
        return
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # no pipe that somebody reads to its end
    os.set_blocking(0, False)
    watcher = Watcher(pid, again_s)
    while not watcher.has_ended:
        ready = select.select([process, 0], [], [], LOOK_S)[0]
        watcher.read(0)
        if process in ready:
            break
        watcher.look()
    watcher.sum_up()


if __name__ == "__main__":
    main()
