"""Who makes the monitor read files waits behind its own lineage: a flood, whoever forks for it, comes after others."""

import asyncio
from contextlib import suppress

import pytest

from agent_broker.identity import look_turns, looks
from agent_broker.identity.evidence import Unknown
from agent_broker.identity.look_turns import LookTurns
from tests.unit.test_attest import World

LOOK_S = 0.5


class Desk:
    """Turns over the recorded lineages of a fake kernel; a look takes half a second of a clock that only looks move."""

    def __init__(self, at_once=1):
        self.world = World()
        self.now_s = 100.0
        self.turns = LookTurns(at_once, lambda: self.now_s)
        self.order = []
        self.refused = []
        self.tasks = []

    def fork(self, parent):
        return self.world.kernel.fork(parent)

    def steps(self, process):
        self.world.kernel.consume()
        return self.world.store.lineage(process.proc_id, process.exec_id).steps

    async def _look(self, name, steps):
        async with self.turns.turn(steps) as refused:
            if refused:
                self.refused.append(name)
                return
            self.order.append(name)
            self.now_s += LOOK_S
            await asyncio.sleep(0)

    async def ask(self, name, process):
        """Ask for a look; returns when the question waits, or has its turn."""
        task = asyncio.create_task(self._look(name, self.steps(process) if process else ()))
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def finish(self):
        await asyncio.gather(*self.tasks)


@pytest.fixture
def desk():
    return Desk()


async def held(desk, process):
    """Take the only turn, and keep it until the returned event is set."""
    done = asyncio.Event()
    steps = desk.steps(process)

    async def hold():
        async with desk.turns.turn(steps):
            await done.wait()
            desk.now_s += LOOK_S

    desk.tasks.append(asyncio.create_task(hold()))
    await asyncio.sleep(0)
    return done


async def test_a_flood_of_ever_new_children_lets_another_lineage_go_first(desk):
    attacker = desk.fork(desk.world.shell)
    done = await held(desk, desk.fork(attacker))
    for number in range(20):
        await desk.ask(f"flood {number}", desk.fork(attacker))
    await desk.ask("agent", desk.world.claude())
    done.set()
    await desk.finish()

    assert desk.order.index("agent") == 0
    assert len(desk.order) == 21


async def test_who_hides_its_children_from_the_live_tree_is_charged_for_them_all_the_same(desk):
    """Double fork: their parents are gone, and the record of them is not."""
    attacker = desk.fork(desk.world.shell)

    def hidden():
        middle = desk.fork(attacker)
        child = desk.fork(middle)
        desk.world.kernel.exit(middle)
        return child

    done = await held(desk, hidden())
    for number in range(20):
        await desk.ask(f"flood {number}", hidden())
    await desk.ask("agent", desk.world.claude())
    done.set()
    await desk.finish()

    assert desk.order[0] == "agent"


async def test_what_the_agents_own_tool_makes_the_monitor_read_does_not_hold_the_agent_up(desk):
    agent = desk.world.claude()
    tool = desk.fork(agent)
    done = await held(desk, desk.fork(tool))
    for number in range(20):
        await desk.ask(f"flood {number}", desk.fork(tool))
    await desk.ask("agent", agent)
    done.set()
    await desk.finish()

    assert desk.order[0] == "agent"


async def test_one_tool_does_not_use_up_what_the_agents_other_tools_have(desk):
    agent = desk.world.claude()
    bad, good = desk.fork(agent), desk.fork(agent)
    done = await held(desk, desk.fork(bad))
    for number in range(20):
        await desk.ask(f"flood {number}", desk.fork(bad))
    await desk.ask("good", desk.fork(good))
    done.set()
    await desk.finish()

    assert desk.order[0] == "good"


async def test_equals_have_their_looks_in_the_order_in_which_they_came(desk):
    done = await held(desk, desk.fork(desk.world.shell))
    names = [f"child {number}" for number in range(5)]
    for name in names:
        await desk.ask(name, desk.fork(desk.world.shell))
    done.set()
    await desk.finish()

    assert desk.order == names


async def test_one_that_asks_again_and_again_has_every_other_turn_at_most(desk):
    greedy, modest = desk.fork(desk.world.shell), desk.fork(desk.world.shell)
    done = await held(desk, desk.fork(desk.world.shell))
    for _ in range(6):
        await desk.ask("greedy", greedy)
    for _ in range(3):
        await desk.ask("modest", modest)
    done.set()
    await desk.finish()

    assert desk.order[:6].count("modest") == 3


async def test_what_was_charged_fades(desk):
    old, new = desk.fork(desk.world.shell), desk.fork(desk.world.shell)
    await desk.ask("old", old)
    await desk.ask("old", old)
    await desk.finish()
    desk.now_s += 600
    await desk.ask("new", new)
    await desk.finish()
    done = await held(desk, desk.fork(desk.world.shell))
    await desk.ask("new", new)
    await desk.ask("old", old)
    done.set()
    await desk.finish()

    assert desk.order[-2:] == ["old", "new"]


async def test_when_too_many_wait_one_of_those_that_caused_it_is_refused(monkeypatch):
    monkeypatch.setattr(look_turns, "WAITING", 10)
    desk = Desk()
    attacker = desk.fork(desk.world.shell)
    done = await held(desk, desk.fork(attacker))
    await desk.ask("agent", desk.world.claude())
    for number in range(30):
        await desk.ask(f"flood {number}", desk.fork(attacker))
    done.set()
    await desk.finish()

    assert desk.order[0] == "agent"
    assert len(desk.order) == 10
    assert len(desk.refused) == 21
    assert "agent" not in desk.refused


async def test_those_of_whom_nothing_is_recorded_are_one_lineage(desk):
    done = await held(desk, desk.fork(desk.world.shell))
    for number in range(5):
        await desk.ask(f"unknown {number}", None)
    await desk.ask("agent", desk.world.claude())
    done.set()
    await desk.finish()

    assert desk.order.index("agent") <= 1


async def test_who_leaves_while_it_waits_or_has_its_turn_keeps_nobody_waiting(desk):
    done = await held(desk, desk.fork(desk.world.shell))
    leaving = [await desk.ask("leaves", desk.fork(desk.world.shell)) for _ in range(3)]
    leaving[0].cancel()
    done.set()
    for _ in range(3):  # the second's turn has come when it is cancelled
        await asyncio.sleep(0)
    leaving[1].cancel()
    for task in leaving[:2]:
        with suppress(asyncio.CancelledError):
            await task
    desk.tasks = [task for task in desk.tasks if task not in leaving[:2]]
    await desk.ask("agent", desk.world.claude())
    await desk.finish()

    assert desk.order[-1] == "agent"


@pytest.mark.parametrize("when", range(8))
async def test_a_turn_is_given_on_whenever_its_holder_is_cancelled(desk, when):
    done = await held(desk, desk.fork(desk.world.shell))
    task = await desk.ask("leaves", desk.fork(desk.world.shell))
    done.set()
    for _ in range(when):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    desk.tasks.remove(task)
    await desk.ask("agent", desk.world.claude())
    await desk.finish()

    assert desk.order[-1] == "agent"


async def test_an_agents_first_hash_is_taken_before_those_that_another_lineage_waits_for(monkeypatch):
    """Through the attestation: by the lineage that the kernel side recorded, and nothing is hashed out of turn."""
    world = World()
    world.hashes._hashes.clear()
    gate, hashed = asyncio.Event(), []

    async def hash_running(image, _sensor, hashes):
        await gate.wait()
        hashed.append(image.pid)
        await asyncio.sleep(0)
        if image.pid != agent.pid:
            return "the executable changed after it was started"
        hashes._put(image.file, "a" * 64)
        return ""

    monkeypatch.setattr(looks, "hash_running", hash_running)
    attacker = world.kernel.fork(world.shell)
    flood = [world.claude(parent=attacker) for _ in range(12)]
    agent = world.claude()
    asking = [asyncio.create_task(world.attest(each)) for each in flood]
    await asyncio.sleep(0)
    first = asyncio.create_task(world.attest(agent))
    for _ in range(5):
        await asyncio.sleep(0)
    assert hashed == []
    gate.set()
    verdicts = await asyncio.gather(*asking)

    assert hashed.index(agent.pid) <= look_turns.AT_ONCE
    assert all(isinstance(each, Unknown) for each in verdicts)
    assert (await first).principal.is_caller
