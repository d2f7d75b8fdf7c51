"""In the tier enforce our daemons, maps and programs are kept from everybody but root by its own doing."""

import ctypes
import errno
import signal
import subprocess

import pytest

from agent_broker.kernel import wire
from tests.fakes.daemon_attacks import Besieged
from tests.fakes.denying import USER
from tests.fakes.enforcing import Enforcing

OPEN_MAP = """
import ctypes, sys
libbpf = ctypes.CDLL("libbpf.so.1")
print(getattr(libbpf, sys.argv[1])(int(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def world():
    world = Besieged()
    yield world
    world.close()


def told(world):
    return [(each.operation, each.denied) for each in world.denied()]


@pytest.mark.parametrize("name", ["KILL", "STOP", "TERM", "USR1"])
def test_a_signal_from_below_an_agent_is_denied_although_it_is_roots(world, name):
    world.denied()

    assert world.below_agent(f"kill -{name} {world.daemon.pid}") != 0

    assert world.daemon.poll() is None
    assert told(world) == [(wire.OPERATION_SIGNAL, True)]


def test_the_daemons_own_user_can_not_stop_it(world):
    world.denied()

    assert world.directly(f"kill -STOP {world.daemon.pid}", uid=USER) != 0
    assert world.directly(f"kill -0 {world.daemon.pid}", uid=USER) == 0
    assert world.directly(f"kill -WINCH {world.daemon.pid}") == 0

    assert told(world) == [(wire.OPERATION_SIGNAL, True)]


def test_nobody_but_root_takes_hold_of_a_daemon(world):
    world.denied()
    read = f"cat /proc/{world.daemon.pid}/mem"

    world.directly(read, uid=USER)
    world.below_agent(read)
    of_others = told(world)
    world.directly(read)

    assert of_others == [(wire.OPERATION_HOLD, True)] * 2
    assert told(world) == []


@pytest.mark.parametrize(
    ("function", "operation"),
    [("bpf_map_get_fd_by_id", wire.OPERATION_MAP), ("bpf_prog_get_fd_by_id", wire.OPERATION_PROGRAM)],
)
def test_our_maps_and_programs_are_roots_to_look_at_and_are_told(world, function, operation):
    number = ours(world, operation)
    world.denied()

    direct = subprocess.run(
        ["/usr/bin/python3", "-c", OPEN_MAP, function, str(number)], capture_output=True, text=True, check=True
    )
    below = subprocess.run(
        [world.shell, "sh", "-c", f'/usr/bin/python3 -c "$0" {function} {number}; true', OPEN_MAP],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert int(direct.stdout) >= 0
    assert int(below.stdout) == -errno.EPERM
    assert told(world) == [(operation, False), (operation, True)]


def ours(world, operation):
    """Return the number of one of our maps or programs, as the kernel side has it."""
    programs = world.sensor._programs
    fd = programs.maps["marks"] if operation == wire.OPERATION_MAP else programs.program_fds()[0]
    info = (ctypes.c_uint * 2)()
    size = ctypes.c_uint(ctypes.sizeof(info))
    programs.libbpf.number("bpf_obj_get_info_by_fd", fd, ctypes.byref(info), ctypes.byref(size))
    return info[1]


def test_the_real_monitor_can_not_be_killed_from_below_its_agent_and_says_who_tried():
    world = Enforcing()
    try:
        world.use_shell_as_agent()
        world.start()

        done = subprocess.run([world.agent, "sh", "-c", f"/bin/kill -KILL {world.monitor.pid}; exit $?"], check=False)

        assert done.returncode != 0
        assert world.monitor.require_alive()
        incident = world.wait_for_incident(kind="monitor-tampered")
        assert (incident["action"], incident["severity"]) == ("denied", "critical")
        assert "SIGKILL to the monitor" in incident["what"]
        world.stop(signal.SIGTERM)
    finally:
        world.close()
