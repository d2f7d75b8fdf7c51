"""Floods of opens on the running kernel: one incident a lineage, every open counted, and memory that stays bounded."""

import asyncio
import errno
import gc
import os
import subprocess
import sys
import threading
import tracemalloc

import pytest

from agent_broker.monitor import giving_way
from agent_broker.monitor.fanotify import Group
from agent_broker.monitor.intake import MAX_WAITING_OPENS
from tests.fakes.watching import SYSTEM_PYTHON, USER, Watching

pytestmark = pytest.mark.kernel

OPENS = 20_000
CHILDREN = 2_000
_GROWTH_BYTES = 4 << 20


@pytest.fixture
async def watching():
    watching = Watching()
    yield watching
    await watching.close()


@pytest.fixture
def precedence():
    """This process's for a while: threads that it starts have it too."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    yield -10
    os.setpriority(os.PRIO_PROCESS, 0, before)


def newest(told):
    return {each.id: each for each in told}


async def run(program):
    """Run a Python program as the user and wait for its end."""
    process = await asyncio.create_subprocess_exec(
        SYSTEM_PYTHON, "-c", program, user=USER, group=USER, extra_groups=(), cwd="/"
    )
    assert await process.wait() == 0


async def test_a_flood_of_one_process_is_one_incident_with_the_exact_count(watching):
    watching.start()
    path = str(watching.decoy)
    await run(f"import os\nfor _ in range({OPENS}): os.close(os.open({path!r}, 0))")

    await watching.all_told()
    told = watching.told
    (incident,) = newest(told).values()
    assert incident.count == OPENS
    assert f"{OPENS} times in all" in incident.what
    assert len(told) < 20
    assert [each.revision for each in told] == list(range(len(told)))


async def test_repeats_that_can_t_be_answered_together_are_answered_and_that_is_told(watching, monkeypatch):
    def refuse(_group, event_fds):
        if event_fds:
            raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(Group, "allow_all", refuse)
    watching.start()
    async with asyncio.timeout(60):  # else nobody is answered any more
        await run(f"import os\nfor _ in range(50): os.close(os.open({str(watching.decoy)!r}, 0))")

    missed, opened = sorted(await watching.all_told(), key=lambda each: each.path)
    assert "could not be looked at" in missed.what
    assert opened.count == 50


async def test_a_flood_of_children_is_one_incident_with_the_exact_count(watching):
    watching.start()
    watching.world.follow_parents = True
    path = str(watching.decoy)
    child = f"os.close(os.open({path!r}, 0)); os._exit(0)"
    program = f"import os\nfor _ in range({CHILDREN}):\n  pid = os.fork()\n  if not pid: {child}\n  os.waitpid(pid, 0)"
    await run(program)

    await watching.all_told()
    told = watching.told
    (incident,) = newest(told).values()
    assert incident.count == CHILDREN
    assert len(told) < 20


async def test_a_flood_while_the_loop_is_stuck_costs_bounded_memory_and_descriptors(watching):
    watching.start()
    path = str(watching.decoy)
    await run(f"import os; os.close(os.open({path!r}, 0))")  # what is kept once is kept now
    before = len(os.listdir("/proc/self/fd"))
    program = f"import os\nfor _ in range({OPENS}): os.close(os.open({path!r}, 0))"
    gc.collect()
    tracemalloc.start()
    command = (SYSTEM_PYTHON, "-c", program)
    with subprocess.Popen(command, user=USER, group=USER, extra_groups=(), cwd="/") as flood:
        flood.wait()  # the event loop stands still meanwhile
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    descriptors = len(os.listdir("/proc/self/fd")) - before

    assert sum(each.count for each in newest(await watching.all_told()).values()) == OPENS + 1
    assert grown_bytes < _GROWTH_BYTES
    assert descriptors < 3 * MAX_WAITING_OPENS


async def test_the_listener_gives_way_to_others_while_a_flood_lasts_and_comes_back(watching, precedence, monkeypatch):
    monkeypatch.setattr(giving_way, "REPEATS", 20)  # also on a slow machine
    watching.start()
    listener = next(each.native_id for each in threading.enumerate() if each.name == "decoy-listener")
    path = str(watching.decoy)
    flood = asyncio.create_task(run(f"import os\nfor _ in range({OPENS}): os.close(os.open({path!r}, 0))"))
    seen = set()
    while not flood.done():
        await asyncio.sleep(0.001)
        seen.add(os.getpriority(os.PRIO_PROCESS, listener))
    await flood

    back = precedence + 1
    for _ in range(100):
        assert await asyncio.to_thread(watching.watch.bell.ring)
        back = os.getpriority(os.PRIO_PROCESS, listener)
        if back == precedence:
            break
        await asyncio.sleep(0.1)
    assert (seen >= {giving_way.ORDINARY}, back) == (True, precedence)


async def test_two_programs_of_one_agent_are_two_incidents_and_their_children_are_theirs(watching):
    watching.start()
    agent = await watching.puppet(agent="claude")
    opening = f"os.close(os.open({str(watching.decoy)!r}, os.O_RDONLY))"
    for _ in range(2):
        tool = await watching.puppet(parent=agent)
        child = await watching.puppet(parent=tool)
        for each in (tool, child, child):
            await each.do(opening)

    incidents = newest(await watching.all_told()).values()
    assert [each.count for each in incidents] == [3, 3]
    assert {each.agent for each in incidents} == {"claude"}


def test_the_interpreter_is_the_one_that_runs_the_floods():
    assert os.path.realpath(SYSTEM_PYTHON).startswith("/usr/bin/python3"), sys.executable
