"""What outlives a process: its pinned ring is read by the next one, also where nothing can be denied."""

import shutil
import signal
import stat
import subprocess
import sys
import uuid

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.kernel import wire
from agent_broker.kernel.libbpf import Libbpf
from agent_broker.kernel.pins import BPFFS, Pins, is_denying, release
from agent_broker.kernel.sensor import CoreSensor

pytestmark = pytest.mark.kernel

MONITOR = """
import os, sys
from pathlib import Path
from agent_broker.kernel.sensor import CoreSensor
sensor = CoreSensor(lambda _: None, pins=Path(sys.argv[1]))
assert not sensor.denials.problem, sensor.denials.problem
with Path(sys.argv[2]).open("rb") as file:
    facts = sensor.own_file(file.fileno()).file
sensor.register(facts.dev, facts.ino, guard=True)
sensor.protect(os.pidfd_open(os.getpid()))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pins():
    folder = BPFFS / "agent-broker-tests" / uuid.uuid4().hex
    yield folder
    release(folder)


@pytest.fixture
def shell(tmp_path):
    """A shell that the monitor takes for an agent."""
    path = tmp_path / "busybox"
    shutil.copy(shutil.which("busybox"), path)
    return path


def start_monitor(pins, shell):
    monitor = subprocess.Popen(
        [sys.executable, "-c", MONITOR, pins, shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert monitor.stdout.readline() == b"ready\n"
    return monitor


def take_over(pins):
    told = []
    sensor = CoreSensor(lambda _: None, pins=pins)
    try:
        count = sensor.denials.take_over(told.append)
    finally:
        sensor.close()
    return count, told


def test_the_signal_that_killed_a_monitor_is_told_by_the_next(pins, shell):
    monitor = start_monitor(pins, shell)
    subprocess.run([shell, "sh", "-c", f"/bin/kill -KILL {monitor.pid}"], check=False)
    monitor.communicate()
    assert monitor.returncode == -signal.SIGKILL

    count, told = take_over(pins)

    assert count == 1
    assert [(each.operation, each.flags, each.ino, each.denied) for each in told] == [
        (wire.OPERATION_SIGNAL, signal.SIGKILL, monitor.pid, False)
    ]


def test_the_pins_are_roots_alone_and_of_the_newest_only(pins, shell):
    kill(start_monitor(pins, shell))
    (elder,) = pins.iterdir()

    newest = start_monitor(pins, shell)
    assert elder in set(pins.iterdir())  # it has not taken over
    kill(newest)
    (left,) = set(pins.iterdir()) - {elder}

    assert stat.S_IMODE(pins.stat().st_mode) == stat.S_IMODE(left.stat().st_mode) == 0o700
    assert take_over(pins) == (2, [])


def kill(monitor):
    monitor.kill()
    monitor.communicate()


def test_where_nothing_is_denied_nothing_outlives_a_monitor_that_stops(pins):
    CoreSensor(lambda _: None, pins=pins).close()

    assert not pins.exists()
    assert is_denying(pins) is None


def test_what_an_unfinished_start_left_behind_is_removed(pins):
    (pins / "half").mkdir(parents=True)

    assert take_over(pins) == (1, [])
    assert not (pins / "half").exists()


def test_releasing_removes_all_and_may_be_done_again(pins, shell):
    kill(start_monitor(pins, shell))

    assert is_denying(pins) is False  # what it told is there, and nothing that denies, on a kernel without BPF LSM
    assert release(pins) == 1
    assert release(pins) == 0
    assert not pins.exists()


def test_a_folder_outside_of_bpffs_is_refused(tmp_path):
    with pytest.raises(UnavailableError, match="not mounted"):
        Pins(Libbpf(), tmp_path / "pins", {}, 0)
    assert not (tmp_path / "pins").exists()
