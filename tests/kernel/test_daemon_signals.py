"""Who signals one of our daemons is told, unless it is root by its own doing; also on a kernel that can't deny it."""

import signal
import subprocess

import pytest

from agent_broker.kernel import wire
from tests.fakes.daemon_attacks import Besieged
from tests.fakes.denying import USER

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def world():
    world = Besieged()
    yield world
    world.close()


def signals(world):
    return [(each.flags, each.uid, each.ino) for each in world.denied() if each.operation == wire.OPERATION_SIGNAL]


@pytest.mark.parametrize("name", ["WINCH", "STOP", "TERM", "KILL"])
def test_a_signal_from_roots_shell_below_an_agent_is_told(world, name):
    start(world)

    world.below_agent(f"kill -{name} {world.daemon.pid}")

    (told,) = signals(world)
    assert told == (getattr(signal, f"SIG{name}"), 0, world.daemon.pid)


def test_a_signal_from_below_an_interpreted_agent_is_told(world):
    start(world)

    world.below_interpreted_agent(f"kill -WINCH {world.daemon.pid}")

    assert [each[0] for each in signals(world)] == [signal.SIGWINCH]


def test_the_daemons_own_user_is_told(world):
    start(world)

    world.directly(f"kill -WINCH {world.daemon.pid}", uid=USER)

    assert [each[:2] for each in signals(world)] == [(signal.SIGWINCH, USER)]


def test_root_by_its_own_doing_is_not(world):
    daemon = start(world)

    world.directly(f"kill -WINCH {daemon.pid}")
    world.directly(f"kill -0 {daemon.pid}", uid=USER)
    world.below_agent(f"kill -0 {daemon.pid}; kill -CONT {daemon.pid}")

    assert signals(world) == []


def test_other_processes_are_nobodys_business(world):
    other = subprocess.Popen(["/bin/sleep", "1000"])
    world.below_agent(f"kill -KILL {other.pid}")
    other.wait()

    assert signals(world) == []


def start(world):
    world.replace_daemon()
    world.denied()
    return world.daemon


def test_who_signals_faster_than_anybody_reads_holds_nobody_up(world):
    start(world)
    many = f"i=0; while [ $i -lt 400 ]; do kill -WINCH {world.daemon.pid}; i=$((i+1)); done"
    world.directly(many, uid=USER)

    rounds = [len(signals(world)) for _ in range(3)]

    assert rounds == [256, 144, 0]
