"""Both daemons with ``[sensor] backend = "bcc"``: the agent is served, others are not; doctor says what is weaker."""

import json
import subprocess

import pytest

from tests.bench.daemons import monitor_status
from tests.bench.stage import stage
from tests.e2e.patience import until
from tests.e2e.test_blind import alerts, ask, command, is_served

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

BCC = '\n[sensor]\nbackend = "bcc"\n'


@pytest.fixture(scope="module")
def world():
    with stage() as made:
        file = made.layout.config_file
        file.write_text(file.read_text() + BCC)
        made.have(monitor=True, broker=True)
        yield made


def test_the_agent_is_served_and_another_program_is_not(world):
    assert (monitor_status(world.layout).backend, monitor_status(world.layout).blind) == ("bcc", "")
    assert is_served(world)
    done = ask(world)
    assert (done.returncode, done.stdout) == (3, "")


def test_an_open_of_a_decoy_is_told_with_its_lineage(world):
    subprocess.run(["/bin/cat", world.decoys[2]], user=1500, group=1500, extra_groups=[], cwd="/", check=True)
    told = until(lambda: [each for each in alerts(world) if each["path"] == str(world.decoys[2])])
    assert told[0]["lineage"][0]["image"]["filename"] == "/bin/cat"


def test_doctor_says_what_is_weaker(world):
    findings = json.loads(command(world, "doctor", "--json").stdout)["findings"]
    (said,) = [each for each in findings if each["subject"] == "sensor"]
    assert said["state"] == "warning"
    assert "nothing is denied by the kernel itself" in said["text"]
