"""What is done against an offender, by the real daemons: it is frozen and, if that is wanted, it stands still."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.monitor.client import MonitorClient
from agent_broker.monitor.incident import NO_EPOCH, new_incident
from tests.bench.stage import OWNER, stage
from tests.e2e.patience import until
from tests.fakes import pid_again

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_PYTHON = "/usr/bin/python3"
_READER = (
    "import sys; open(sys.argv[1]).read(); print('read', flush=True); sys.stdin.readline(); print('on', flush=True)"
)
_PRESENTER = """
import http.client, sys
value = sys.stdin.readline().strip()
connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
connection.request('POST', '/v1/messages', body='{}', headers={'x-api-key': value})
print(connection.getresponse().status, flush=True)
"""
_REQUEST = "POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {}\r\ncontent-length: 2\r\n\r\n{{}}"
_ECHO = "import sys; print('here', flush=True); [print(line, end='', flush=True) for line in sys.stdin]"


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        made.monitor.options = ("--on-critical", "stop")
        made.home = made.folder / "home"
        made.home.mkdir()
        os.chown(made.home, OWNER, OWNER)
        made.have(monitor=True, broker=True)
        yield made


@pytest.fixture(scope="module")
def value(world):
    """What a planted decoy holds."""
    place = world.home / ".env"
    whose = ("--user", str(OWNER), "--home", str(world.home))
    command(world, "decoy", "plant", str(place), "--kind", "env-file", *whose, "--yes")
    return place.read_text().split("PROD_DEPLOY_TOKEN=")[1].split("\n")[0]


@pytest.fixture
def started():
    """Starts a program of the user's; what still runs in the end is killed."""
    made = []

    def start(*words):
        process = subprocess.Popen(
            words, user=OWNER, group=OWNER, extra_groups=[], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        made.append(process)
        return process

    yield start
    for each in made:
        each.kill()
        each.communicate()


@pytest.fixture
def stop_agents(world):
    """As ``[freeze] stop_agent`` has it, for one test."""
    before = world.layout.config_file.read_text()
    world.layout.config_file.write_text(f"{before}\n[freeze]\nstop_agent = true\n")
    restart_monitor(world)
    yield
    world.layout.config_file.write_text(before)
    restart_monitor(world)


def command(world, *argv):
    done = subprocess.run(
        [".venv/bin/agent-broker", "--root", str(world.layout.root), *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def restart_monitor(world):
    world.monitor.stop()
    world.monitor.start()


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def told_of(world, pid, kind):
    """The alerts of one kind whose first process this is."""
    told = map(json.loads, command(world, "alerts", "--json", "--limit", "1000").splitlines())
    return [each for each in told if each["kind"] == kind and each["lineage"][0]["image"]["pid"] == pid]


def stopped(world, pid, kind):
    """Return the one alert on a process that stands still, and the number of its freeze."""
    assert until(lambda: state(pid) == "T")
    (told,) = until(lambda: told_of(world, pid, kind))
    assert told["severity"] == "critical"
    frozen = json.loads(command(world, "freeze", "--list", "--json"))
    (number,) = [each["id"] for each in frozen if told["offenders"][0] in each["proc_ids"]]
    assert told["response"] == (
        f"stopped: process {pid} (SIGSTOP); frozen: 1 process, no grant was live; undo: sudo agent-broker thaw {number}"
    )
    return told, str(number)


def presenter(world, started, value):
    process = started(_PYTHON, "-c", _PRESENTER, str(world.inject_port))
    process.stdin.write(f"{value}\n")
    process.stdin.flush()
    return process


def test_an_offender_is_stopped_and_frozen_and_goes_on_when_it_is_thawed(world, started):
    reader = started(_PYTHON, "-c", _READER, world.decoys[0])

    _, number = stopped(world, reader.pid, "decoy-opened")

    done = json.loads(command(world, "thaw", number, "--json"))
    assert done == {"thawed": 1, "continued": 1, "out_of_reach": 0}
    assert reader.communicate("\n")[0] == "read\non\n"


def test_who_uses_a_decoy_s_value_is_stopped_by_the_broker_s_own_alert_and_goes_on_when_thawed(world, started, value):
    process = presenter(world, started, value)

    told, number = stopped(world, process.pid, "decoy-used")

    assert (told["path"], told["action"]) == (str(world.home / ".env"), "refused")
    assert command(world, "thaw", number) == "thawed: 1 freeze; 1 stopped process told to go on\n"
    assert process.communicate()[0] == "401\n"


def test_after_a_restart_of_the_monitor_thaw_says_what_lets_it_go_on(world, started, value):
    process = presenter(world, started, value)
    _, number = stopped(world, process.pid, "decoy-used")
    restart_monitor(world)

    said = command(world, "thaw", number)

    assert said.startswith("thawed: 1 freeze\n")
    assert "sudo kill -CONT PID" in said
    assert state(process.pid) == "T"
    process.send_signal(signal.SIGCONT)
    assert process.communicate()[0] == "401\n"


def agent_presenting(world, started, value):
    request = world.folder / "presented.http"
    request.write_text(_REQUEST.format(value))
    return started(world.driver("exchanger"), "1", str(world.inject_port), request)


def test_an_agent_s_main_process_is_not_stopped(world, started, value):
    process = agent_presenting(world, started, value)

    (told,) = until(lambda: told_of(world, process.pid, "decoy-used"))
    assert told["severity"] == "critical"
    assert told["response"].startswith(f"not stopped: process {process.pid} is the agent claude itself; frozen: ")
    process.communicate()  # it takes no 401 for an answer, and ends by itself
    assert process.returncode > 0


def test_an_agent_s_main_process_is_stopped_if_that_was_asked_for(world, started, value, stop_agents):
    process = agent_presenting(world, started, value)

    _, number = stopped(world, process.pid, "decoy-used")

    assert "1 stopped process told to go on" in command(world, "thaw", number)
    process.communicate()
    assert process.returncode > 0


def used(steps, epoch):
    """What the broker says of whoever used a decoy's value."""
    return new_incident(
        kind="decoy-used", time_ns=1, severity="critical", what="x", tier="observe+", action="refused",
        lineage=steps, epoch=epoch, offenders=(steps[0].proc_id,),
    )  # fmt: skip


@pytest.mark.parametrize("epoch", ["known", "unknown"])
def test_who_still_is_the_offender_is_stopped_whichever_epoch_the_broker_knows(world, started, epoch):
    offender = started(_PYTHON, "-c", _ECHO)
    assert offender.stdout.readline() == "here\n"
    steps, now = asyncio.run(asked(world, described, offender.pid))

    told = asyncio.run(asked(world, MonitorClient.complete, used(steps, now if epoch == "known" else NO_EPOCH)))

    assert told.response == f"stopped: process {offender.pid} (SIGSTOP)"
    assert until(lambda: state(offender.pid) == "T")


@pytest.mark.parametrize("epoch", ["known", "unknown"])
def test_another_process_that_has_the_offender_s_pid_by_now_is_not_stopped(world, started, epoch):
    """It had ended, and its pid was given away, before the monitor was asked."""
    offender = started(_PYTHON, "-c", _ECHO)
    assert offender.stdout.readline() == "here\n"
    steps, now = asyncio.run(asked(world, described, offender.pid))
    offender.communicate("")
    heir = subprocess.Popen(
        [sys.executable, pid_again.__file__, str(offender.pid), str(OWNER), _PYTHON, "-c", _ECHO],
        cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        assert heir.stdout.readline() == "here\n"
        assert f"\nUid:\t{OWNER}\t" in Path(f"/proc/{offender.pid}/status").read_text()
        incident = used(steps, now if epoch == "known" else NO_EPOCH)

        told = asyncio.run(asked(world, MonitorClient.complete, incident))

        assert told.response == (f"not stopped: process {offender.pid} has ended" if epoch == "known" else "")
        assert state(offender.pid) != "T"
    finally:
        os.killpg(heir.pid, signal.SIGCONT)  # one that was stopped all the same would be waited for without end
        heir.communicate("")


async def described(client, pid):
    return (await client.describe_pid(pid)).steps, (await client.status()).epoch


async def asked(world, question, about):
    """Ask the monitor, as the broker does."""
    client = MonitorClient(world.layout.monitor_socket)
    try:
        return await question(client, about)
    finally:
        await client.close()
