"""What is done against an offender, by the real daemons: it is frozen and, if that is wanted, it stands still."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.bench.stage import OWNER, stage
from tests.e2e.patience import until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_READER = (
    "import sys; open(sys.argv[1]).read(); print('read', flush=True); sys.stdin.readline(); print('on', flush=True)"
)


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        made.monitor.options = ("--on-critical", "stop")
        made.have(monitor=True, broker=True)
        yield made


@pytest.fixture
def reader(world):
    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", _READER, world.decoys[0]],
        user=OWNER, group=OWNER, extra_groups=[], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def command(world, *argv):
    return subprocess.run(
        [".venv/bin/agent-broker", "--root", str(world.layout.root), *argv], capture_output=True, text=True, check=False
    ).stdout


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_offender_is_stopped_and_frozen_and_goes_on_when_it_is_thawed(world, reader):
    assert until(lambda: state(reader.pid) == "T")
    assert until(lambda: command(world, "alerts", "--json"))
    (told,) = map(json.loads, command(world, "alerts", "--json").splitlines())

    assert told["severity"] == "critical"
    frozen = json.loads(command(world, "freeze", "--list", "--json"))
    assert told["response"] == (
        f"stopped: process {reader.pid} (SIGSTOP); "
        f"frozen: 1 process, no grant was live; undo: sudo agent-broker thaw {frozen[0]['id']}"
    )
    assert json.loads(command(world, "thaw", str(frozen[0]["id"]), "--json")) == {"thawed": 1}
    reader.stdin.write("\n")
    reader.stdin.flush()
    assert reader.stdout.read() == "read\non\n"
