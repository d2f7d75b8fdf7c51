"""Opens on their way from the listener's thread to the loop: each once, or counted; never more than so many."""

import asyncio
import os
import threading

import pytest

from agent_broker.kernel.maps import TaskRecord
from agent_broker.monitor import intake
from agent_broker.monitor.actor import Actor
from agent_broker.monitor.intake import Intake
from agent_broker.monitor.mark import Mark


def mark_of(path):
    return Mark(path, None, 1000, deny=False)


class Desk:
    def __init__(self, loop):
        self.settled, self.repeated, self.missed = [], [], 0
        self.is_told = True
        self.mark = mark_of("/decoy")
        self.intake = Intake(loop, self.settle, self.repeat, self.miss)

    def settle(self, opened):
        opened.is_told = self.is_told
        if self.is_told is not None:
            self.settled.append((opened.actor.record, opened.actor.exe_fd is not None, self.intake.take(opened)))
        opened.actor.close()

    def repeat(self, opened):
        self.repeated.append((opened.actor.record.proc_id, self.intake.take(opened)))

    def miss(self, _reason, times):
        self.missed += times

    def put(self, number, times=1, mark=None):
        """Hand over as the listener does; ``number`` stands for a program."""
        record = None if number is None else TaskRecord(number, number, 0)
        mark = mark or self.mark
        for _ in range(times):
            if not self.intake.join(mark, record):
                self.intake.put(mark, mark.path, actor_of(record))

    @property
    def counted(self):
        return sum(times for _, _, times in self.settled) + sum(times for _, times in self.repeated) + self.missed


def actor_of(record):
    return Actor(1, os.open("/dev/null", os.O_RDONLY), record, os.open("/dev/null", os.O_RDONLY))


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
        desk.intake.put(desk.mark, "/decoy", actor_of(TaskRecord(1, 1, 0)))
    desk.intake.close()

    assert [times for _, _, times in desk.settled] == [3]


async def test_what_waits_is_in_work_once_whatever_its_count(desk):
    desk.put(1, times=3)
    desk.put(2)
    assert desk.intake.in_work == 2
    desk.intake.close()
    assert desk.intake.in_work == 0


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
    assert desk.counted == 200
    assert desk.missed == 150


async def test_one_that_fails_does_not_take_others_with_it(desk, monkeypatch):
    settle = desk.intake._settle

    def fail_first(opened):
        settle(opened)
        if len(desk.settled) == 1:
            raise ValueError("a defect")

    monkeypatch.setattr(desk.intake, "_settle", fail_first)
    for number in range(3):
        desk.put(number)
    desk.intake.close()

    assert (len(desk.settled), desk.missed) == (3, 1)


async def test_what_follows_a_failed_look_is_still_counted(desk, monkeypatch):
    def fail(_opened):
        raise ValueError("a defect")

    monkeypatch.setattr(desk.intake, "_settle", fail)
    desk.put(1)
    await asyncio.sleep(0)
    desk.put(1, times=5)
    desk.intake.close()

    assert (desk.missed, desk.repeated) == (1, [(1, 5)])


async def test_what_follows_a_look_comes_out_as_a_repeat_of_it(desk):
    desk.put(1)
    await asyncio.sleep(0)
    desk.put(1, times=5)
    while not desk.repeated:
        await asyncio.sleep(0.01)
    desk.put(1)
    desk.intake.close()

    assert [(record.proc_id, times) for record, _, times in desk.settled] == [(1, 1), (1, 1)]
    assert desk.repeated == [(1, 5)]


async def test_one_that_did_it_a_moment_ago_needs_no_second_look_at_it(desk):
    record = TaskRecord(1, 1, 0)
    assert not desk.intake.join(desk.mark, record)
    desk.put(1)

    assert desk.intake.join(desk.mark, record)
    while not desk.settled:
        await asyncio.sleep(0)
    assert desk.intake.join(desk.mark, record)
    assert not desk.intake.join(desk.mark, None)


async def test_another_program_or_another_file_is_no_repeat(desk):
    desk.put(1)
    await asyncio.sleep(0)
    desk.put(2)
    desk.put(1, mark=mark_of("/other"))
    desk.intake.close()

    assert ([record.proc_id for record, _, _ in desk.settled], desk.repeated) == ([1, 2, 1], [])


async def test_repeats_of_what_is_not_told_are_not_told(desk):
    desk.is_told = False
    desk.put(1)
    await asyncio.sleep(0)
    desk.put(1, times=5)
    desk.intake.close()

    assert (len(desk.settled), desk.repeated) == (1, [])


async def test_whoever_settles_late_takes_all_that_came_until_then(desk):
    late = []
    desk.is_told = None
    desk.intake._settle = lambda opened: (late.append(opened), desk.settle(opened))
    desk.put(1)
    await asyncio.sleep(0)
    desk.put(1, times=5)
    desk.intake.close()

    assert (desk.settled, desk.repeated, desk.intake.take(late[0])) == ([], [], 6)


async def test_what_is_remembered_is_bounded(desk, monkeypatch):
    monkeypatch.setattr(intake, "MAX_LATELY", 10)
    for number in range(30):
        desk.put(number)
    while len(desk.settled) < 30:
        await asyncio.sleep(0)
    for number in range(30):
        desk.put(number, times=2)
    desk.intake.close()

    assert desk.repeated == [(number, 2) for number in range(10)]
    assert desk.counted == 90


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

    assert desk.counted == 6000
