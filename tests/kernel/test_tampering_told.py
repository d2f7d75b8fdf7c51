"""Who takes hold of an interpreted agent is told, whatever the monitor knew of the agent until then."""

import subprocess
from pathlib import Path

import pytest

from agent_broker.clock import SystemClock
from agent_broker.ids import Epoch
from agent_broker.monitor.tamper import TamperReporter
from tests.fakes.interpreted import OWNER, enrolled_world

pytestmark = pytest.mark.kernel
_DEBUGGER = Path(__file__).parents[1] / "e2e/agents/programs/seize.py"


class Told:
    """What was published of who took hold of whom."""

    def __init__(self, world):
        self._world = world
        self._incidents = []
        self._reporter = TamperReporter(world.attestor, self._incidents.append, SystemClock(), Epoch("e1"))
        world.store.on_taint = self._reporter.report

    @property
    def in_work(self):
        """How many are looked at, of all that happened before."""
        while not self._world.sensor.consume():
            pass  # another CPU has not committed its event yet
        return self._reporter.in_work

    async def incidents(self):
        """Return what is told of all that happened before."""
        assert self.in_work == 1
        await self._reporter.close()
        assert self.in_work == 0
        return [(each.kind, each.agent, each.lineage[0].pid) for each in self._incidents]


@pytest.fixture
async def world():
    async with enrolled_world() as world:
        yield world


@pytest.fixture
def told(world):
    return Told(world)


def debugged(world, process):
    """Attach to a process as its own user; return the debugger's pid."""
    debugger = subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", _DEBUGGER.read_text(), str(process.pid)],
        user=OWNER, group=OWNER, extra_groups=(), cwd="/", stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert debugger.communicate()[1] == ""
    assert debugger.returncode == 0
    return debugger.pid


async def agent(world):
    process = world.start(world.link)
    await world.loaded(process)
    return process


async def test_an_agent_that_asked_for_nothing_yet(world, told):
    process = await agent(world)

    by = debugged(world, process)

    assert await told.incidents() == [("agent-tampered", "sample", by)]


async def test_an_agent_whose_package_was_written_to_since_it_asked(world, told):
    process = await agent(world)
    assert (await world.attest(process)).taints == ()
    world.as_user(f"open('{world.package}/new', 'w').close()")

    by = debugged(world, process)

    assert await told.incidents() == [("agent-tampered", "sample", by)]


async def test_an_agent_that_ended_meanwhile(world, told):
    process = await agent(world)
    by = debugged(world, process)
    process.kill()
    process.wait()

    assert await told.incidents() == [("agent-tampered", "sample", by)]


async def test_another_script_of_its_interpreter_is_nobody_s_business(world, told):
    other = world.folder / "other.js"
    other.write_text("console.log('loaded'); setInterval(() => {}, 1000)\n")
    process = world.start("/usr/bin/node", other)
    await world.loaded(process)

    debugged(world, process)

    assert await told.incidents() == []
