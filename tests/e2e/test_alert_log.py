"""What the tests take for the end of what was told before: it is, however long a program takes to be looked at."""

import asyncio
import itertools
import os
import shutil
import subprocess

import pytest

from agent_broker.monitor.client import MonitorClient
from tests.bench.stage import OWNER, stage
from tests.e2e.attacks.alert_log import AlertLog, in_work
from tests.e2e.patience import until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_NUMBERS = itertools.count()
_SLOW_BYTES = 1 << 30  # takes some second to hash, all of it a hole


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        made.have(monitor=True, broker=True)
        yield made


@pytest.fixture(scope="module")
def log(world):
    folder = world.folder / "logs"
    folder.mkdir()
    made = AlertLog(world.layout.root, folder, world.decoys[0])
    yield made
    made.close()


def opened_by_a_slow_program(world):
    """Open a decoy by a program that nobody has hashed; return its path."""
    slow = world.folder / f"slow-{next(_NUMBERS)}"
    shutil.copy("/bin/cat", slow)
    os.truncate(slow, _SLOW_BYTES)
    subprocess.run([slow, world.decoys[1]], user=OWNER, group=OWNER, extra_groups=[], capture_output=True, check=True)
    return str(slow)


async def status(world):
    client = MonitorClient(world.layout.monitor_socket)
    try:
        return await client.status()
    finally:
        await client.close()


@pytest.mark.parametrize("number", range(3))
def test_a_program_that_takes_long_to_hash_is_told_before_the_end_mark(world, log, number):
    slow = opened_by_a_slow_program(world)

    log.settle()

    told = [each for each in log.incidents() if each["lineage"][0]["image"]["filename"] == slow]
    assert [each["path"] for each in told] == [str(world.decoys[1])]


def test_the_monitor_says_that_it_still_looks_at_a_program(world):
    """One of these questions comes while it does; how soon the first one comes is not known."""
    assert until(lambda: opened_by_a_slow_program(world) and asyncio.run(status(world)).incidents_in_work)


def test_nothing_is_in_work_when_nothing_happens_and_a_broker_that_is_down_is_not_nothing(world, log):
    log.settle()
    assert in_work(world.layout.root) == 0
    world.have(monitor=True, broker=False)
    assert in_work(world.layout.root) == 1
