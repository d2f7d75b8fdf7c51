"""The monitor that runs and does not see: real daemons, and root who works against them. Nothing is released."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.daemons import monitor_status
from tests.bench.figures import CannotMeasureError
from tests.bench.injection import exchange, request_pairs
from tests.bench.stage import OWNER, REAL_KEY, SHIM, stage
from tests.e2e.patience import until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_AGENT_BROKER = ".venv/bin/agent-broker"


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        yield made


def ask(world):
    """Ask for the key as the agent's own tool."""
    environment = {"AGENT_BROKER_ROOT": str(world.layout.root)}
    return subprocess.run(
        [world.driver(SHIM.name), "get", "api-key"],
        user=OWNER, group=OWNER, extra_groups=[], env=environment, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip


def is_served(world):
    """Whether the agent itself gets its key used at the injection endpoint."""
    try:
        exchange(world, 1, request_pairs(world, stream=False))
    except CannotMeasureError:
        return False
    return True


def command(world, *argv):
    return subprocess.run(
        [_AGENT_BROKER, "--root", str(world.layout.root), *argv], capture_output=True, text=True, check=False
    )


def alerts(world):
    return [json.loads(line) for line in command(world, "alerts", "--json", "--limit", "1000").stdout.splitlines()]


def tampered(world):
    return [each for each in alerts(world) if each["kind"] == "monitor-tampered"]


def test_root_who_reads_the_ring_makes_the_monitor_blind_and_nothing_is_released(world):
    world.have(monitor=True, broker=True)
    assert monitor_status(world.layout).blind == ""
    assert is_served(world)
    thief = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.ring_thief", str(world.monitor.pid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert thief.stdout.readline() == "reading\n"
        assert until(lambda: monitor_status(world.layout).blind)
    finally:
        thief.communicate()

    done = ask(world)
    doctor = command(world, "doctor", "--json")

    assert (done.returncode, done.stdout) == (3, "")
    assert "does not report any more" in done.stderr
    assert REAL_KEY.decode() not in done.stderr
    assert not is_served(world)
    assert until(lambda: tampered(world))
    (told,) = tampered(world)
    assert told["severity"] == "critical"
    assert doctor.returncode == 4
    findings = {each["subject"]: each for each in json.loads(doctor.stdout)["findings"]}
    assert findings["heartbeat"]["state"] == "failed"
    assert json.loads(doctor.stdout)["tier"] == "none"


def test_a_monitor_that_was_started_again_sees_again(world):
    world.have(monitor=False, broker=True)
    world.have(monitor=True, broker=True)

    assert monitor_status(world.layout).blind == ""
    assert is_served(world)


def test_root_who_removes_our_marks_is_told_and_the_marks_come_back(world):
    world.have(monitor=True, broker=True)
    known = len(tampered(world))

    flush_marks(world.monitor.pid)
    assert until(lambda: len(tampered(world)) > known)
    (told, *_) = tampered(world)[known:]
    subprocess.run(["/bin/cat", world.decoys[5]], user=OWNER, group=OWNER, extra_groups=[], cwd="/", check=True)

    assert "removed the monitor's marks" in told["what"]
    assert "they were put back" in told["what"]
    assert until(lambda: str(world.decoys[5]) in [each["path"] for each in alerts(world)])


def test_a_monitor_that_was_killed_is_missed_and_the_next_one_is_served_again(world):
    world.have(monitor=True, broker=True)
    assert is_served(world)
    os.kill(world.monitor.pid, signal.SIGKILL)
    world.monitor.stop()

    assert not is_served(world)
    done = ask(world)
    assert (done.returncode, done.stdout) == (3, "")
    assert "the monitor does not answer" in done.stderr
    assert until(lambda: [each for each in tampered(world) if "has not answered" in each["what"]])
    world.have(monitor=True, broker=True)
    assert is_served(world)


def test_a_monitor_that_was_stopped_is_missed_too(world):
    world.have(monitor=True, broker=False)
    world.have(monitor=True, broker=True)  # one that has told of no outage yet
    known = len(tampered(world))
    os.kill(world.monitor.pid, signal.SIGSTOP)
    try:
        assert until(lambda: len(tampered(world)) > known)
    finally:
        os.kill(world.monitor.pid, signal.SIGCONT)
    assert "has not answered" in tampered(world)[-1]["what"]


def flush_marks(pid):
    """Take every fanotify descriptor of a process, and remove its marks (pidfd_getfd(2), FAN_MARK_FLUSH)."""
    library = ctypes.CDLL(None, use_errno=True)
    library.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
    pidfd = os.pidfd_open(pid)
    groups = [each for each in Path(f"/proc/{pid}/fd").iterdir() if is_group(each)]
    assert groups
    for each in groups:
        taken = library.syscall(438, pidfd, int(each.name), 0)
        assert library.fanotify_mark(taken, 0x80, 0, -100, None) == 0
        os.close(taken)
    os.close(pidfd)


def is_group(descriptor):
    """Whether it is one of fanotify's; the monitor's others come and go."""
    try:
        return str(descriptor.readlink()) == "anon_inode:[fanotify]"
    except FileNotFoundError:
        return False
