"""Death of a daemon: a clear answer at once, nothing released, no incident lost, all back after a restart."""

import json
import os
import signal
import subprocess

import pytest

from tests.bench.stage import OWNER, REAL_KEY, SHIM, stage
from tests.e2e.patience import until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        yield made


def ask(world, *argv):
    """Ask through the shim as the user who owns the agent, from outside any agent."""
    return subprocess.run(
        [world.driver(SHIM.name), *argv],
        user=OWNER, group=OWNER, extra_groups=[], env={"AGENT_BROKER_ROOT": str(world.layout.root)}, cwd="/",
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def read(decoy):
    subprocess.run(
        ["/bin/cat", decoy],
        user=OWNER, group=OWNER, extra_groups=[], cwd="/", stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def kill(daemon):
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.stop()


def alerts(world):
    """What the broker has stored."""
    done = subprocess.run(
        [".venv/bin/agent-broker", "--root", str(world.layout.root), "alerts", "--json", "--limit", "1000"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_without_the_broker_a_shim_says_so_and_nothing_hangs(world):
    world.have(monitor=True, broker=True)
    assert ask(world, "claude-api-key-helper").returncode == 0
    kill(world.broker)

    done = ask(world, "claude-api-key-helper")

    assert done.returncode == 4
    assert "agent-broker" in done.stderr
    assert done.stdout == ""


def test_without_the_monitor_nothing_is_released(world):
    world.have(monitor=True, broker=True)
    kill(world.monitor)

    done = ask(world, "get", "api-key")

    assert done.returncode == 3
    assert "monitor" in done.stderr
    assert REAL_KEY.decode() not in done.stdout


def test_an_incident_while_the_broker_is_dead_is_told_when_it_is_back(world):
    world.have(monitor=True, broker=True)
    kill(world.broker)
    decoy = world.decoys[3]
    read(decoy)
    world.have(monitor=True, broker=True)

    assert until(lambda: str(decoy) in [each["path"] for each in alerts(world)])
    (told,) = [each for each in alerts(world) if each["path"] == str(decoy)]
    assert told["kind"] == "decoy-opened"
    assert told["lineage"][0]["image"]["filename"] == "/bin/cat"


def test_a_monitor_killed_with_an_incident_that_nobody_took_still_has_it(world):
    world.have(monitor=True, broker=False)
    decoy = world.decoys[4]
    read(decoy)
    spool = world.layout.spool / "incidents"
    assert until(lambda: str(decoy) in spool.read_text())
    kill(world.monitor)
    world.have(monitor=True, broker=True)

    assert until(lambda: str(decoy) in [each["path"] for each in alerts(world)])


def test_a_damaged_spool_is_told_and_does_not_keep_the_monitor_from_watching(world):
    world.have(monitor=True, broker=False)
    spool = world.layout.spool / "incidents"
    for decoy in world.decoys[5:7]:
        read(decoy)
        assert until(lambda decoy=decoy: str(decoy) in spool.read_text())
    kill(world.monitor)
    first, *rest = spool.read_bytes().splitlines(keepends=True)
    spool.write_bytes(b"".join([b"{" + first, *rest]))
    world.have(monitor=True, broker=True)

    def told():
        return [each for each in alerts(world) if "spool was damaged" in each["what"]]

    assert until(told)
    assert told()[0]["severity"] == "critical"
    assert until(lambda: str(world.decoys[6]) in [each["path"] for each in alerts(world)])
    assert spool.with_suffix(".damaged").exists()
