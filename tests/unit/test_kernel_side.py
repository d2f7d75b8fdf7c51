"""The monitor's turns at the kernel's ring: they go on, they end with what went wrong, and they end when told to."""

import asyncio
import os
from typing import cast

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.kernel.sensor import KernelSensor
from agent_broker.monitor.kernel_side import drain


class _Ring:
    """Of a sensor, what draining asks; ``epoll_fd`` is readable once something was written to ``bell``."""

    def __init__(self, fails_at: int = 0) -> None:
        self.epoll_fd, self.bell = os.pipe()
        self.consumed = 0
        self.came = asyncio.Event()
        self._fails_at = fails_at

    def consume(self) -> bool:
        self.consumed += 1
        self.came.set()
        if self.consumed == self._fails_at:
            raise UnavailableError("the ring is gone")
        return True

    def close(self) -> None:
        os.close(self.epoll_fd)
        os.close(self.bell)


@pytest.fixture
def make():
    made: list[_Ring] = []

    def one(**how: int) -> _Ring:
        made.append(_Ring(**how))
        return made[-1]

    yield one
    for ring in made:
        ring.close()


def _drain(ring: _Ring, also) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(drain(cast("KernelSensor", ring), also))


async def test_it_comes_again_and_again_and_does_the_rest_each_time(make):
    ring, rest = make(), []
    draining = _drain(ring, lambda: rest.append(ring.consumed))
    while len(rest) < 4:
        ring.came.clear()
        await ring.came.wait()
        await asyncio.sleep(0)
    assert rest[:4] == [1, 2, 3, 4]
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


async def test_a_ring_that_can_not_be_read_ends_it(make):
    ring = make(fails_at=3)
    with pytest.raises(UnavailableError, match="the ring is gone"):
        await _drain(ring, lambda: None)
    assert ring.consumed == 3


async def test_what_else_is_done_ends_it_too_when_it_fails(make):
    def fails() -> None:
        raise OSError("no descriptors")

    with pytest.raises(OSError, match="no descriptors"):
        await _drain(make(), fails)


async def test_once_it_was_told_to_end_nothing_is_read_any_more(make):
    ring = make()
    draining = _drain(ring, lambda: None)
    await ring.came.wait()
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    loop = asyncio.get_running_loop()
    assert not loop.remove_reader(ring.epoll_fd)
    seen, later = ring.consumed, loop.create_future()
    loop.call_later(0.05, later.set_result, None)  # behind its next turn, whenever that would have been
    await later
    assert ring.consumed == seen
