"""Opens on their way from the listener's thread to the loop: each once, or counted; never more than so many."""

import asyncio
import os
import threading

import pytest

from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor import intake
from agent_broker.monitor.actor import Actor
from agent_broker.monitor.intake import Intake


class Desk:
    def __init__(self, loop):
        self.settled, self.missed = [], 0
        self.intake = Intake(loop, self.settle, self.miss)

    def settle(self, event_fd, actor, times):
        os.close(event_fd)
        self.settled.append((actor.record, actor.exe_fd is not None, times))
        actor.close()

    def miss(self, _reason, times):
        self.missed += times

    def put(self, number, times=1):
        """Hand over as the listener does; ``number`` stands for a program."""
        record = None if number is None else TaskRecord(number, number, 0)
        for _ in range(times):
            event_fd = os.open("/dev/null", os.O_RDONLY)
            if self.intake.join(event_fd, record):
                os.close(event_fd)
            else:
                pidfd = os.open("/dev/null", os.O_RDONLY)
                self.intake.put(event_fd, Actor(1, pidfd, record, os.open("/dev/null", os.O_RDONLY)))


@pytest.fixture
async def desk():
    before = len(os.listdir("/proc/self/fd"))
    yield (desk := Desk(asyncio.get_running_loop()))
    desk.intake.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_opens_of_one_program_that_wait_are_one_with_a_count(desk):
    desk.put(1, times=100)
    desk.put(2)
    desk.intake.close()

    assert [(record.proc_id, times) for record, _, times in desk.settled] == [(1, 100), (2, 1)]


async def test_one_that_came_while_its_twin_was_handed_over_is_counted_too(desk):
    for _ in range(3):
        descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
        desk.intake.put(descriptors[0], Actor(1, descriptors[1], TaskRecord(1, 1, 0), descriptors[2]))
    desk.intake.close()

    assert [times for _, _, times in desk.settled] == [3]


async def test_opens_of_unknown_programs_are_never_mixed(desk):
    desk.put(None, times=3)
    desk.intake.close()

    assert [times for _, _, times in desk.settled] == [1, 1, 1]


async def test_what_waits_is_bounded_in_descriptors_and_in_all_and_nothing_is_uncounted(desk, monkeypatch):
    monkeypatch.setattr(intake, "MAX_WAITING_OPENS", 10)
    monkeypatch.setattr(intake, "MAX_WAITING_IN_ALL", 25)
    for number in range(100):
        desk.put(number, times=2)
    desk.intake.close()

    assert [has_exe for _, has_exe, _ in desk.settled] == [True] * 10 + [False] * 15
    assert sum(times for _, _, times in desk.settled) + desk.missed == 200
    assert desk.missed == 150


async def test_one_that_fails_does_not_take_others_with_it(desk, monkeypatch):
    settle = desk.intake._settle

    def fail_first(event_fd, actor, times):
        settle(event_fd, actor, times)
        if actor.record is None or len(desk.settled) == 1:
            raise ValueError("a defect")

    monkeypatch.setattr(desk.intake, "_settle", fail_first)
    for number in range(3):
        desk.put(number)
    desk.intake.close()

    assert (len(desk.settled), desk.missed) == (3, 1)


async def test_a_thread_and_the_loop_lose_nothing_between_them(desk):
    def flood():
        for number in range(3000):
            desk.put(number % 7, times=2)

    thread = threading.Thread(target=flood)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0)
    thread.join()
    desk.intake.close()

    assert sum(times for _, _, times in desk.settled) + desk.missed == 6000
