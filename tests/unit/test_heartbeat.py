"""What a beat proves, with a kernel side that loses, counts, and forgets as it is told; the processes are real."""

import pytest

from agent_broker.kernel.events import Exec, Exit, Fork
from agent_broker.kernel.maps import Losses, TaskRecord
from agent_broker.monitor.heartbeat import FRESH_S, Heartbeat
from tests.fakes.clock import FakeClock

NONE_LOST = {"fork": 0, "exec": 0, "exit": 0, "seed": 0, "strings": 0, "record": 0}


class Kernel:
    """Numbers every process it is asked about, and tells of it what is not in ``silent``."""

    def __init__(self, heartbeat):
        self.silent = set()
        self.counts = True
        self.numbers = True
        self.detached = ()
        self.empty = True
        self.lost = dict(NONE_LOST)
        self._sink = heartbeat.tap(lambda _: None)
        self._last = 0
        self._waiting = []

    def task_record(self, _pidfd):
        if not self.numbers:
            return None
        self._last += 1
        new = self._last
        told = {"fork": Fork(0, new, 1, 1, 1, 1), "exec": Exec(new, 2, 1, 1, b""), "exit": Exit(new)}
        for hook, event in told.items():
            if hook not in self.silent:
                self._waiting.append(event)
            elif self.counts:
                self.lost[hook] += 1
        return TaskRecord(new, 1, 0)

    def consume(self):
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self._sink(event)
        return self.empty

    def losses(self):
        return Losses(**self.lost)

    def lost_links(self):
        return self.detached

    def go_back(self):
        self._last = 0


@pytest.fixture
async def world():
    clock = FakeClock()
    heartbeat = Heartbeat(clock)
    told = []
    heartbeat.on_blind = told.append
    kernel = Kernel(heartbeat)
    heartbeat.start(kernel)
    assert await heartbeat.prove() == ""
    clock.advance_s(FRESH_S + 1)
    yield heartbeat, kernel, told
    await heartbeat.close()


@pytest.mark.parametrize("hook", ["fork", "exec", "exit"])
async def test_an_event_that_was_counted_as_lost_is_no_sign_of_blindness(world, hook):
    heartbeat, kernel, told = world
    kernel.silent = {hook}

    assert await heartbeat.prove() == ""
    assert told == []


@pytest.mark.parametrize("hook", ["fork", "exec", "exit"])
async def test_an_event_that_is_missing_and_was_not_counted_is(world, hook):
    heartbeat, kernel, told = world
    kernel.silent, kernel.counts = {hook}, False

    assert f"no event of {hook}" in await heartbeat.prove()
    assert told == [heartbeat.blind]


async def test_numbers_that_go_back_are(world):
    heartbeat, kernel, _ = world
    kernel.go_back()
    assert "do not go on" in await heartbeat.prove()


async def test_a_ring_that_is_never_empty_proves_nothing_and_is_not_final(world):
    heartbeat, kernel, told = world
    kernel.empty = False
    assert "too busy" in await heartbeat.prove()

    kernel.empty = True
    assert await heartbeat.prove() == ""
    assert told == []


async def test_a_process_that_can_not_be_started_proves_nothing_and_is_not_final(world, monkeypatch):
    heartbeat, _, told = world
    monkeypatch.setattr("agent_broker.monitor.heartbeat._PROGRAMS", ("/nowhere/true",))
    assert "no process could be started" in await heartbeat.prove()

    monkeypatch.undo()
    assert await heartbeat.prove() == ""
    assert told == []


async def test_no_number_is_no_sign_if_the_kernel_counted_that_it_had_no_room(world):
    heartbeat, kernel, told = world
    kernel.numbers = False
    look = kernel.task_record

    def lose(pidfd):
        kernel.lost["record"] += 1
        return look(pidfd)

    kernel.task_record = lose
    assert "too busy" in await heartbeat.prove()
    assert told == []
