"""What is done to the monitor or the broker becomes one incident, which names who did it."""

import os
import signal

import pytest

from agent_broker.kernel import wire
from agent_broker.kernel.events import Denial
from agent_broker.monitor.self_defence import MAX_TOLD, SelfReporter
from tests.fakes.attestor import World
from tests.fakes.clock import FakeClock


@pytest.fixture
def world():
    world = World()
    world.agent = world.process(10, "/opt/claude", agent="claude")
    world.thief = world.fork(world.agent, 11)
    world.execute(world.thief, "/usr/bin/kill")
    return world


@pytest.fixture
def told():
    return []


@pytest.fixture
def reporter(world, told):
    return SelfReporter(world, told.append, FakeClock(), world.epoch, "enforce")


def event(process, operation=wire.OPERATION_SIGNAL, **fields):
    given = {
        "time_ns": 5, "proc_id": process.proc_id, "exec_id": process.image.exec_id, "dev": 0, "ino": os.getpid(),
        "operation": operation, "flags": signal.SIGKILL, "pid": process.pid, "uid": 0, "denied": True,
        "command": b"kill", "name": b"",
    }  # fmt: skip
    return Denial(**{**given, **fields})


def test_who_signals_the_monitor_is_named_with_the_agent_that_started_it(reporter, world, told):
    reporter.report(event(world.thief))

    (incident,) = told
    assert (incident.kind, incident.severity, incident.action) == ("monitor-tampered", "critical", "denied")
    assert "/usr/bin/kill (pid 11, uid 0) tried to send SIGKILL to the monitor" in incident.what
    assert incident.agent == "claude"
    assert incident.offenders == (world.thief.proc_id,)


@pytest.mark.parametrize(
    ("fields", "words", "severity"),
    [
        ({"denied": False, "ino": 7}, "sent SIGKILL to the daemon with pid 7", "critical"),
        ({"operation": wire.OPERATION_HOLD}, "tried to take hold of the monitor", "critical"),
        ({"operation": wire.OPERATION_MAP, "ino": 3, "denied": False}, "opened map 3 of the monitor", "info"),
        ({"operation": wire.OPERATION_PROGRAM, "ino": 4}, "tried to open program 4 of the monitor", "critical"),
        ({"flags": 200}, "signal 200", "critical"),
    ],
)
def test_what_was_done_is_said(world, fields, words, severity):
    told = []
    SelfReporter(world, told.append, FakeClock(), world.epoch, "enforce").report(event(world.thief, **fields))

    assert words in told[0].what
    assert told[0].severity == severity


def test_the_signal_that_ended_the_last_monitor_is_told_by_what_the_kernel_kept(reporter, world, told):
    reporter.report_earlier(event(world.thief, denied=False, command=b"evil\x1b[1m"))

    assert told[0].lineage == ()
    assert told[0].offenders == ()
    assert "evil\\x1b[1m (pid 11, uid 0) sent SIGKILL" in told[0].what


def test_a_flood_of_signals_is_a_bounded_number_of_incidents(reporter, world, told):
    for _ in range(1000):
        reporter.report(event(world.thief))
    assert len(told) == 1

    for pid in range(1000, 1000 + 2 * MAX_TOLD):
        reporter.report(event(world.fork(world.agent, pid)))
    assert len(told) == MAX_TOLD


def test_that_something_was_lost_is_told(reporter, told):
    for _ in range(3):
        reporter.missed("denials came too fast to be told one by one")

    assert [each.kind for each in told] == ["monitor-tampered"]
    assert "too fast" in told[0].what
