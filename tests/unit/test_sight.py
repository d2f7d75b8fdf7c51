"""What the monitor says it sees and denies of attacks on a running agent, and how doctor says it."""

import pytest

from agent_broker.cli.diagnosis import diagnose
from agent_broker.cli.finding import Finding
from agent_broker.cli.sight_text import sight_findings, sight_gaps, yama_finding
from agent_broker.config.document import Config
from agent_broker.monitor.sight import Sight, sight_without
from tests.fakes.control import monitor_status

LSM = {"guard": "EPERM", "map_code": "EPERM", "protect_code": "EPERM"}
KEY = Finding("root key", "ok", "a file")
DOWN = Finding("broker", "failed", "down")


def test_with_every_hook_all_is_denied_or_seen():
    assert sight_without({}) == Sight("denied", "denied", "seen", "seen at once")


def test_without_lsm_it_is_only_seen():
    assert sight_without(LSM) == Sight("seen", "seen", "seen", "looked at")


@pytest.mark.parametrize(
    ("missing", "field", "value"),
    [
        ("trace", "ptrace", "unseen"),
        ("memory", "memory_writes", "unseen"),
        ("send", "connection_writers", "unseen"),
    ],
)
def test_a_hook_that_is_missing_is_missed(missing, field, value):
    assert getattr(sight_without({**LSM, missing: "no such hook"}), field) == value


@pytest.mark.parametrize("missing", ["map_code", "protect_code"])
def test_half_of_the_mapping_hooks_is_not_enough(missing):
    assert sight_without({missing: "no such hook"}).mappings == "looked at"


def test_what_is_only_seen_is_never_called_denied():
    texts = [each.text for each in sight_findings(sight_without(LSM))]

    assert all("denied" not in text.replace("not denied", "") for text in texts)
    assert any("can't deny" in gap for gap in sight_gaps(sight_without(LSM)))


def test_what_is_not_even_seen_is_a_warning_and_a_gap():
    findings = sight_findings(Sight())

    assert {each.state for each in findings} == {"warning"}
    assert len(sight_gaps(Sight())) > len(sight_gaps(sight_without({})))


def test_doctor_names_the_gaps_of_this_kernel():
    without = diagnose(DOWN, monitor_status(sight=sight_without(LSM)), Config(), KEY)
    with_lsm = diagnose(DOWN, monitor_status(), Config(), KEY)

    assert any("attaches to a running agent" in each for each in without.cannot_see)
    assert not any("attaches to a running agent" in each for each in with_lsm.cannot_see)


@pytest.mark.parametrize(
    ("scope", "denied", "state", "says"),
    [
        ("0", False, "warning", "a parent can still trace its child"),
        ("0", True, "ok", "any process"),
        ("1", False, "ok", "environ is still readable"),
        ("2", False, "ok", "CAP_SYS_PTRACE"),
        ("3", False, "ok", "nobody"),
        (None, False, "ok", "not in this kernel"),
    ],
)
def test_yama_is_shown_with_what_it_stops(scope, denied, state, says):
    finding = yama_finding(scope, denied=denied)

    assert finding.state == state
    assert says in finding.text
    assert ("sysctl kernel.yama.ptrace_scope=1" in finding.next_step) == (scope == "0")
