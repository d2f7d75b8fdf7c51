"""A kernel with BPF LSM whose list of security modules lacks ``bpf``: it attaches our programs, and never asks them."""

import errno
import signal

from agent_broker.kernel.marks import HOOKS
from agent_broker.kernel.pins import is_denying, pins_folder
from agent_broker.kernel.sensor import NEVER_ASKED, CoreSensor
from agent_broker.monitor.sight import sight_without
from agent_broker.monitor.tiers import OBSERVE_PLUS, detect
from tests.fakes.enforcing import Enforcing


def test_what_is_attached_and_never_asked_is_not_called_denied():
    sensor = CoreSensor(lambda _: None)
    try:
        assert sensor.marks is None
        assert {sensor.missing[name] for name in (*HOOKS, "guard", "kill")} == {NEVER_ASKED}
        assert sensor.lost_links() == ()
        assert detect(denies=sensor.marks is not None).name == OBSERVE_PLUS
        assert sight_without(sensor.missing).ptrace == "seen"
    finally:
        sensor.close()


def test_the_monitor_says_observe_and_denies_while_it_lives():
    world = Enforcing()
    try:
        world.start()
        assert "tier observe+" in world.monitor.said()
        assert world.open() == errno.EPERM
        assert world.wait_for_incident(action="denied")["tier"] == OBSERVE_PLUS
        world.stop(signal.SIGKILL)
        assert world.open() == 0
        assert is_denying(pins_folder(world.layout.root)) is False
    finally:
        world.close()
