"""What holds for every test."""

import os
import signal
import time
from types import FrameType

import pytest

from tests.hangs import AGAIN_S, Hangs
from tests.lanes import Lanes, by_length

WHOLE_WORLD_S = 2000
"""Of tests whose fixture plays a whole table of scenarios before the first of them runs: some last minutes."""


def pytest_configure(config: pytest.Config) -> None:
    """Let an interrupt end what tests start: below a shell's background job SIGINT would be ignored by all of it.

    Whoever tells pytest to end gets the worlds taken down and the failures listed, as by an interrupt.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt(os.getpid()))
    config.pluginmanager.register(Hangs(), "hangs")
    if "PYTEST_XDIST_WORKER" in os.environ:  # sockets have short paths only
        config.option.basetemp = config.option.basetemp.replace("/popen-gw", "/")


def _interrupt(pid: int):
    told_s = -AGAIN_S

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal told_s
        if os.getpid() != pid:  # a forked child of a test
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if time.monotonic() < told_s + AGAIN_S:  # make and timeout tell it twice: us, and our process group
            return
        told_s = time.monotonic()
        ran = os.environ.get("PYTEST_CURRENT_TEST", "no test")
        raise KeyboardInterrupt(f"pytest was told to end; it ran {ran}")

    return interrupt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of whole processes their longer limit; in a lane, put what takes long first."""
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(WHOLE_WORLD_S))
    if "PYTEST_XDIST_WORKER" in os.environ:
        by_length(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> Lanes:
    """See tests.lanes."""
    return Lanes(config, log)
