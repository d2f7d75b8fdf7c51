"""The real monitor denies, its death changes nothing, and the next one takes over without a gap."""

import errno
import signal

import pytest

from agent_broker.kernel.pins import is_denying, pins_folder
from tests.fakes.denying import start_reader
from tests.fakes.enforcing import Enforcing


@pytest.fixture
def world():
    world = Enforcing()
    yield world
    world.close()


def test_a_denied_decoy_is_an_incident_of_the_tier_enforce(world):
    world.start()
    assert "tier enforce" in world.monitor.said()

    with start_reader(world.root) as reader:  # it lives until it was looked at: an emulated machine is slow
        reader.stdin.write(f"{world.decoy}\n")
        reader.stdin.flush()
        assert [int(reader.stdout.readline()) for _ in range(2)] == [0, errno.EPERM]
        incident = world.wait_for_incident(kind="decoy-opened")

    assert (incident["tier"], incident["action"], incident["severity"]) == ("enforce", "denied", "critical")
    assert incident["path"] == str(world.decoy)
    assert incident["lineage"][0]["image"]["filename"] == str(world.root / "reader")
    assert incident["process_sha256"] or "was not hashed within" in incident["what"]


def test_a_decoy_can_not_be_removed_moved_or_emptied_either(world):
    world.start()

    assert [world.open(how=how) for how in ("unlink", "rename", "truncate", "link")] == [errno.EPERM] * 4

    incident = world.wait_for_incident(kind="decoy-replaced")
    assert "denied" in incident["what"]
    assert incident["action"] == "denied"
    assert world.decoy.stat().st_size == len("decoy")


def test_the_agent_opens_its_own_decoy_and_root_is_the_monitors_to_decide(world):
    """It is not the agent, so it is refused, as in the tier observe+; the kernel by itself would let it pass."""
    world.start()

    world.wait_for_agent()
    assert world.open(uid=0) == errno.EPERM

    assert world.wait_for_incident(severity="info")["action"] == "denied"
    assert [each["severity"] for each in world.incidents()] == ["info"]


def test_a_decoy_that_is_served_is_served(world):
    world.enroll(deny=False)
    world.start()

    assert world.open() == 0

    assert world.wait_for_incident(kind="decoy-opened")["action"] == "served-decoy"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_denial_outlives_the_monitor(world, number):
    world.start()

    world.stop(number)

    assert world.open() == errno.EPERM
    assert world.open(how="unlink") == errno.EPERM
    assert world.open(world.agent) == errno.EPERM  # nobody can be asked whether it is the agent's main process
    assert world.open(uid=0) == 0


def test_no_open_succeeds_while_the_monitor_is_killed_and_restarted(world):
    world.start()
    reader = start_reader(world.root)
    reader.stdin.write(f"storm {world.decoy}\n")
    reader.stdin.flush()

    for _ in range(2):
        world.stop(signal.SIGKILL)
        world.start()
    said, _ = reader.communicate("\n")

    tries, successes = map(int, said.splitlines()[1].split())
    assert tries > 1000
    assert successes == 0


def test_the_next_monitor_takes_over_and_tells_what_was_denied_meanwhile(world):
    world.start()
    first = world.generations()
    world.stop(signal.SIGKILL)
    world.open()

    world.start()

    (second,) = world.generations()
    assert first != [second]
    incident = world.wait_for_incident(action="denied")
    assert "the monitor was not running" in incident["what"]
    assert "opener" in incident["what"]
    world.wait_for_agent()
    assert world.open() == errno.EPERM


def test_a_mark_that_was_taken_back_meanwhile_ends_with_the_next_monitor(world):
    world.start()
    world.stop(signal.SIGKILL)
    world.enroll(deny=False)
    assert world.open() == errno.EPERM

    world.start()

    assert world.open() == 0


def test_releasing_the_pins_ends_denial(world):
    world.start()
    world.stop()
    assert world.open() == errno.EPERM
    assert is_denying(pins_folder(world.layout.root))

    said = world.command("monitor", "--release-pins")

    assert said.startswith("1 monitor")
    assert world.open() == 0
    assert world.generations() == []
