"""Whose question the monitor hears next: by recorded lineage, and only those are asked for it who have to wait."""

import asyncio
from itertools import count

import pytest

from agent_broker.admission.standing import Lane
from agent_broker.monitor import turns
from agent_broker.monitor.turns import AskingTurns
from agent_broker.transport.limits import Limits

SHELL, FLOODER, AGENT = 2, 3, 4


class Hall:
    """Askers that hold their turn until they are told to go on; who got a turn, in order."""

    def __init__(self, at_once=1, **most):
        self.turns = AskingTurns(at_once, **most)
        self.order = []
        self.refused = []
        self.stopped = []
        self.looked_up = []
        self.tasks = []
        self._doors = []
        self._new = count(100)

    def child_of(self, *ancestors):
        """Return the lineage of a new process; ``ancestors``: the nearest first."""
        return (next(self._new), *ancestors, SHELL, 1)

    async def ask(self, name, lineage=None, lane=Lane.NEW):
        door = asyncio.Event()
        self._doors.append(door)
        lineage = self.child_of() if lineage is None else lineage
        task = asyncio.create_task(self._ask(name, lineage, lane, door))
        self.tasks.append(task)
        await settled()
        return task

    async def _ask(self, name, lineage, lane, door):
        async def look_up():
            self.looked_up.append(name)
            return lineage

        def stop():
            self.stopped.append(name)
            door.set()

        async with self.turns.turn(lane, look_up, stop) as may_ask:
            (self.order if may_ask else self.refused).append(name)
            if may_ask:
                await door.wait()

    async def finish(self):
        for door in self._doors:
            door.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    monkeypatch.setattr(turns, "LONG_S", 3600)


async def test_one_process_flood_waits_behind_itself():
    hall, flooder = Hall(), (FLOODER, SHELL, 1)
    for number in range(4):
        await hall.ask(f"flood {number}", flooder)
    await hall.ask("other")
    await hall.ask("third")
    await hall.finish()
    assert hall.order == ["flood 0", "flood 1", "other", "third", "flood 2", "flood 3"]


async def test_however_many_processes_a_lineage_forks_the_agent_goes_before_them():
    hall = Hall()
    for number in range(100):
        await hall.ask(f"flood {number}", hall.child_of(FLOODER))
    await hall.ask("agent's helper", hall.child_of(AGENT))
    await hall.finish()
    assert hall.order.index("agent's helper") == 2  # one has its turn, one is of an equal side and came before
    assert len(hall.order) == 101


async def test_a_lineage_that_asked_much_has_no_turn_while_one_that_asked_little_waits(monkeypatch):
    monkeypatch.setattr(turns, "MODEST", 10)
    hall = Hall()
    for number in range(30):
        await hall.ask(f"flood {number}", hall.child_of(FLOODER))
    await hall.finish()
    hall.order.clear()
    await hall.ask("flood", hall.child_of(FLOODER))
    for number in range(8):
        await hall.ask(f"flood {number}", hall.child_of(hall.child_of(FLOODER)[0], FLOODER))
    for number in range(8):
        await hall.ask(f"helper {number}", hall.child_of(AGENT))
    await hall.finish()
    assert hall.order[1:9] == [f"helper {number}" for number in range(8)]


async def test_the_agent_goes_before_what_its_own_tool_forks_and_so_do_its_other_tools():
    hall = Hall()
    for number in range(50):
        await hall.ask(f"flood {number}", hall.child_of(FLOODER, AGENT))
    await hall.ask("other tool", hall.child_of(77, AGENT))
    await hall.ask("agent", (AGENT, SHELL, 1))
    await hall.finish()
    assert max(hall.order.index("agent"), hall.order.index("other tool")) == 3


async def test_ever_new_children_of_the_agents_own_parent_take_turns_with_it(monkeypatch):
    """They have a side each, which was never charged; the agent has asked before."""
    monkeypatch.setattr(turns, "MODEST", 10)
    hall = Hall()
    for number in range(5):
        await hall.ask(f"earlier {number}", hall.child_of(AGENT))
    await hall.finish()
    hall.order.clear()
    await hall.ask("new 0")
    await hall.ask("new 1")
    await hall.ask("agent's helper", hall.child_of(AGENT))
    for number in range(2, 50):
        await hall.ask(f"new {number}")
    await hall.finish()
    assert hall.order[:3] == ["new 0", "new 1", "agent's helper"]


async def test_those_of_unknown_lineage_are_one_side():
    hall = Hall()
    for number in range(20):
        await hall.ask(f"unknown {number}", ())
    await hall.ask("agent's helper", hall.child_of(AGENT))
    await hall.finish()
    assert hall.order.index("agent's helper") == 2


async def test_who_need_not_wait_is_not_looked_up_and_not_charged():
    hall = Hall(at_once=2)
    await hall.ask("first")
    await hall.ask("second")
    assert hall.looked_up == []
    assert len(hall.turns._charges) == 0
    await hall.ask("third")
    assert hall.looked_up == ["third"]
    await hall.finish()


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


async def test_when_too_many_wait_the_lineage_that_asked_most_is_refused(monkeypatch):
    monkeypatch.setattr(turns, "MODEST", 2)
    hall = Hall(waiting=10)
    for number in range(9):
        await hall.ask(f"before {number}", hall.child_of(FLOODER))
    await hall.finish()
    hall.order.clear()
    for number in range(8):
        await hall.ask(f"helper {number}", hall.child_of(AGENT))
    for number in range(50):
        await hall.ask(f"flood {number}", hall.child_of(FLOODER))
    assert len(hall.refused) == 47
    await hall.finish()
    assert [each for each in hall.refused if each.startswith("helper")] == []
    assert len(hall.order) == 11


async def test_what_waits_and_what_takes_long_never_takes_all_places_of_a_user():
    assert Limits().per_uid > turns.AT_ONCE + turns.WAITING + turns.MAX_LONG


async def test_a_question_that_takes_long_gives_its_turn_up_once(monkeypatch):
    monkeypatch.setattr(turns, "LONG_S", 0)
    hall = Hall()
    await hall.ask("long")
    await hall.ask("next")
    while hall.order != ["long", "next"]:
        await asyncio.sleep(0)
    await hall.finish()
    assert not hall.turns._turns.must_wait


async def test_of_too_many_that_take_long_one_of_the_greediest_lineage_is_stopped(monkeypatch):
    monkeypatch.setattr(turns, "LONG_S", 0)
    monkeypatch.setattr(turns, "MODEST", 0)
    hall = Hall(long=4)
    await hall.ask("agent", (AGENT, SHELL, 1))
    for number in range(8):
        await hall.ask(f"flood {number}", hall.child_of(FLOODER))
    while len(hall.stopped) < 5:
        await asyncio.sleep(0)
    assert "agent" not in hall.stopped
    await hall.finish()
    assert len(hall.turns._long) == 0


async def test_who_gives_up_waiting_takes_no_turn_with_it():
    hall = Hall()
    await hall.ask("first")
    leaver = await hall.ask("leaver")
    await hall.ask("last")
    leaver.cancel()
    await hall.finish()
    assert hall.order == ["first", "last"]
    assert not hall.turns._turns.must_wait


async def test_who_gives_up_at_the_moment_of_its_turn_passes_it_on():
    hall = Hall()
    first = await hall.ask("first")
    leaver = await hall.ask("leaver")
    await hall.ask("last")
    first.cancel()
    await asyncio.sleep(0)  # now it is the leaver's turn, which it does not know yet
    leaver.cancel()
    await settled()
    assert hall.order == ["first", "last"]
    await hall.finish()
    assert not hall.turns._turns.must_wait
