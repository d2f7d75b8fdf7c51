import asyncio

import pytest

from agent_broker.admission.standing import Lane
from agent_broker.monitor import turns
from agent_broker.monitor.turns import Turns


class Hall:
    """Askers that hold their turn until they are told to go on; who got a turn, in order."""

    def __init__(self, at_once=1):
        self.turns = Turns(at_once)
        self.order = []
        self.tasks = []
        self._doors = []

    async def ask(self, name, asker=None, lane=Lane.NEW):
        door = asyncio.Event()
        self._doors.append(door)
        task = asyncio.create_task(self._ask(name, asker or name, lane, door))
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def _ask(self, name, asker, lane, door):
        async with self.turns.turn(asker, lane):
            self.order.append(name)
            await door.wait()

    async def finish(self):
        for door in self._doors:
            door.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    monkeypatch.setattr(turns, "LONG_S", 3600)


async def test_one_askers_flood_waits_behind_itself():
    hall = Hall()
    for number in range(4):
        await hall.ask(f"flood {number}", asker="flooder")
    await hall.ask("other")
    await hall.ask("third")
    await hall.finish()
    assert hall.order == ["flood 0", "flood 1", "other", "third", "flood 2", "flood 3"]


async def test_who_was_refused_goes_after_everybody_else():
    hall = Hall()
    await hall.ask("first")
    await hall.ask("refused", lane=Lane.REFUSED)
    await hall.ask("new")
    await hall.finish()
    assert hall.order == ["first", "new", "refused"]


async def test_who_is_served_never_waits():
    hall = Hall()
    await hall.ask("flood")
    for number in range(100):
        await hall.ask(f"agent {number}", lane=Lane.SERVED)
    assert len(hall.order) == 101
    await hall.finish()


async def test_so_many_are_under_way_at_once_and_no_more():
    hall = Hall(at_once=3)
    for number in range(5):
        await hall.ask(number + 1)
    assert hall.order == [1, 2, 3]
    await hall.finish()
    assert hall.order == [1, 2, 3, 4, 5]
    await hall.ask("again")
    assert hall.order[-1] == "again"
    await hall.finish()


async def test_a_question_that_takes_long_gives_its_turn_up_once(monkeypatch):
    monkeypatch.setattr(turns, "LONG_S", 0)
    hall = Hall()
    await hall.ask("long")
    await hall.ask("next")
    while hall.order != ["long", "next"]:
        await asyncio.sleep(0)
    await hall.finish()
    assert hall.turns._free == 1


async def test_who_gives_up_waiting_takes_no_turn_with_it():
    hall = Hall()
    await hall.ask("first")
    leaver = await hall.ask("leaver")
    await hall.ask("last")
    leaver.cancel()
    await hall.finish()
    assert hall.order == ["first", "last"]
    assert hall.turns._free == 1


async def test_who_gives_up_at_the_moment_of_its_turn_passes_it_on():
    queue = Turns(1)
    await queue._wait("first", Lane.NEW)
    leaver = asyncio.create_task(queue._wait("leaver", Lane.NEW))
    last = asyncio.create_task(queue._wait("last", Lane.NEW))
    await asyncio.sleep(0)
    queue.next()
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    await last
