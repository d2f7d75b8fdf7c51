"""A test that hangs fails, and so does its cleaning up; a test that takes long is named while it runs.

pytest-timeout decides how long a test with its fixtures may take (``timeout`` in pyproject.toml, the mark ``timeout``).
Its own timer rings once: what then waits in a ``finally``, in a context manager or in a fixture's end waits for ever.
Here it rings again and again, until the test is over. What never comes back to Python is killed by the watcher
(see tests/watcher.py), a process of its own, that also says which test ran when pytest was killed.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CoroutineType, FrameType
from typing import NoReturn

import pytest
import pytest_timeout

AGAIN_S = 60
"""What cleans up has this long at each place where it waits."""


class Hangs:
    """The plugin. Made once for each process that runs tests."""

    def __init__(self) -> None:
        self._watcher = _start_watcher()

    def _tell(self, *words: object) -> None:
        line = "\t".join(map(str, words)).replace("\n", "\\n")
        with contextlib.suppress(BrokenPipeError):  # somebody killed the watcher: the tests go on
            os.write(self._watcher, f"{line}\n".encode())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Name the test to the watcher, and end the timer when the test is over, not before."""
        self._tell("runs", item.nodeid)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._tell("over", item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, settings) -> bool:
        """Ring when the time is over, and again from then on."""

        def ring(_: int, frame: FrameType | None) -> None:
            __tracebackhide__ = True
            if not pytest_timeout.is_debugging():
                _fail(settings.timeout)

        self._tell("limit", settings.timeout)
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, AGAIN_S)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_cancel_timer(self) -> bool:
        """Asked for after the first failure too, when the fixtures' ends are still to come: not yet."""
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note failures, for the case that pytest does not live to list them."""
        if report.failed:
            self._tell("failed", report.nodeid)

    def pytest_unconfigure(self) -> None:
        """Let the watcher go."""
        self._tell("end")
        os.close(self._watcher)


def _fail(timeout_s: float) -> NoReturn:
    __tracebackhide__ = True
    pytest.fail(f"not over after {timeout_s:g} s: it waits at the last line above{_tasks()}")


def _tasks() -> str:
    """Where the tasks of the running event loop wait: the traceback has the loop's own lines only."""
    loop = asyncio._get_running_loop()
    lines = [f"\n  {task.get_name()}: {_awaited(task.get_coro())}" for task in asyncio.all_tasks(loop)] if loop else []
    return "".join(["; its tasks:", *lines]) if lines else ""


def _awaited(coroutine: object) -> str:
    """The chain of what a coroutine awaits, from the outside in."""
    places = []
    while isinstance(coroutine, CoroutineType):
        if coroutine.cr_frame is not None:
            places.append(f"{Path(coroutine.cr_code.co_filename).name}:{coroutine.cr_frame.f_lineno}")
        coroutine = coroutine.cr_await
    return " > ".join([*places, type(coroutine).__name__])


def _start_watcher() -> int:
    """Start the watcher as nobody's child, so that no test meets it; return where it is told things."""
    theirs, ours = os.pipe()
    program = str(Path(__file__).with_name("watcher.py"))
    command = [sys.executable, "-I", program, str(os.getpid()), str(AGAIN_S)]
    with os.fdopen(theirs, "rb") as told:
        subprocess.run(command, stdin=told, check=True)
    return ours
