"""What a daemon gives up is gone: checked from outside, by the kernel's own word."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from agent_broker.monitor.giving_way import REPEATS, WINDOW_S, GivingWay
from agent_broker.privilege import (
    CAP_BPF,
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    become,
    hide_memory,
    keep_capabilities,
    leave_network,
    take_precedence,
)

pytestmark = pytest.mark.kernel

UID = 64321


class Child:
    """A forked process that did something and waits to be looked at."""

    def __init__(self, action):
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.write(writer, (action() or "done").encode())
            except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
                os.write(writer, f"failed: {error}".encode())
            signal.pause()
        os.close(writer)
        self.said = os.read(reader, 4096).decode()
        os.close(reader)

    def status(self):
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def child(request):
    child = Child(request.param)
    yield child
    child.close()


def become_somebody():
    become(UID, UID)


def become_and_try_to_come_back():
    become(UID, UID)
    tries = [lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])]
    refused = 0
    for attempt in tries:
        try:
            attempt()
        except PermissionError:
            refused += 1
    return f"{refused} of {len(tries)} refused"


@pytest.mark.parametrize("child", [become_somebody], indirect=True)
def test_the_broker_becomes_its_user_with_no_capability_in_any_set(child):
    status = child.status()

    assert child.said == "done"
    assert status["Uid"].split() == [str(UID)] * 4
    assert status["Gid"].split() == [str(UID)] * 4
    assert status["Groups"].split() == []
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("child", [become_and_try_to_come_back], indirect=True)
def test_there_is_no_way_back(child):
    assert child.said == "3 of 3 refused"


@pytest.mark.parametrize("child", [become_somebody], indirect=True)
def test_its_memory_is_hidden_from_its_own_user(child):
    def read_it():
        os.setresuid(UID, UID, UID)
        with Path(f"/proc/{child.pid}/mem").open("rb"):
            return "opened"

    thief = Child(read_it)
    thief.close()

    assert "Permission denied" in thief.said
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits


def narrow():
    hide_memory()
    keep_capabilities(CAP_BPF | CAP_SYS_ADMIN)


@pytest.mark.parametrize("child", [narrow], indirect=True)
def test_the_monitor_keeps_only_what_it_names(child):
    status = child.status()

    assert child.said == "done"
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) == CAP_BPF | CAP_SYS_ADMIN


def give_way_and_come_back():
    take_precedence()
    keep_capabilities(CAP_BPF | CAP_SYS_NICE)
    way = GivingWay()
    seen = []
    for repeats in (REPEATS, 0):
        way.answered(repeats)
        seen.append(str(os.getpriority(os.PRIO_PROCESS, 0)))
        time.sleep(2 * WINDOW_S)
    return " ".join(seen)


@pytest.mark.parametrize("child", [give_way_and_come_back], indirect=True)
def test_the_monitor_s_thread_that_gave_way_can_come_back(child):
    assert child.said == "0 -10"


def connect_nowhere():
    listener = socket.create_server(("127.0.0.1", 0))
    leave_network()
    try:
        socket.create_connection(listener.getsockname(), timeout=1)
    except OSError as error:
        return error.strerror


@pytest.mark.parametrize("child", [connect_nowhere], indirect=True)
def test_the_monitor_can_open_no_connection(child):
    assert child.said == "Network is unreachable"
