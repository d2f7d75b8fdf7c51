"""What the tests take for the end of what was told before: it is, however long a program takes to be looked at."""

import os
import shutil
import subprocess

import pytest

from tests.bench.stage import OWNER, stage
from tests.e2e.attacks.alert_log import AlertLog, in_work

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

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


@pytest.mark.parametrize("number", range(3))
def test_a_program_that_takes_long_to_hash_is_told_before_the_end_mark(world, log, number):
    slow = world.folder / f"slow-{number}"
    shutil.copy("/bin/cat", slow)
    os.truncate(slow, _SLOW_BYTES)
    subprocess.run([slow, world.decoys[1]], user=OWNER, group=OWNER, extra_groups=[], capture_output=True, check=True)

    log.settle()

    told = [each for each in log.incidents() if each["lineage"][0]["image"]["filename"] == str(slow)]
    assert [each["path"] for each in told] == [str(world.decoys[1])]


def test_nothing_is_in_work_when_nothing_happens_and_a_broker_that_is_down_is_not_nothing(world, log):
    log.settle()
    assert in_work(world.layout.root) == 0
    world.have(monitor=True, broker=False)
    assert in_work(world.layout.root) == 1
