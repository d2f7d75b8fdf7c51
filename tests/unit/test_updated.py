"""A new version in an enrolled agent's place is refused with what to do about it, and freezes nothing."""

import msgspec
import pytest

from agent_broker.errors import RefusedError
from agent_broker.identity.registry import (
    Approval,
    Bundle,
    EnrolledBinary,
    EnrolledScript,
    Enrollment,
    RoleRule,
)
from agent_broker.identity.updated import find_updated
from agent_broker.issue import INJECT, RELEASE, Ask
from agent_broker.lineage.record import Step
from agent_broker.monitor.detection import SERVED, EventFacts, decide_open
from agent_broker.monitor.mark import Mark
from tests.unit.test_issue import BASH, KEY, OWNER, SHIM, Broker, ScriptedCaller, evidence, image

OLD = "/home/u/.local/share/claude/versions/2.1.330"
NEW = "/home/u/.local/share/claude/versions/2.1.331"
LAUNCHER = "/home/u/.local/bin/claude"
HASH = "a" * 64


def enrollment(script=None, path=OLD):
    binary = EnrolledBinary(path, HASH, 1, script=script, launchers=(LAUNCHER,))
    approval = Approval(path, script.sha256 if script else HASH, 1, "2.1.330", 1, "enroll")
    return Enrollment("claude", OWNER, "u", (binary,), RoleRule(("claude",)), (), (), 1, history=(approval,))


def started(filename, argv0="claude", **changes):
    made = image(50, 5, filename, owner_uid=OWNER)
    return Step(5, msgspec.structs.replace(made, argv0=argv0, **changes), "self", exited=False)


@pytest.mark.parametrize("filename", [LAUNCHER, OLD, NEW])
def test_a_new_file_in_the_agents_place_is_named(filename):
    found = find_updated(evidence(started(filename)), "claude", (enrollment(),))

    assert found.sentence == f"claude at {filename} is not what was enrolled (2.1.330)"
    assert found.next_step == "if you updated it: sudo agent-broker approve claude"


@pytest.mark.parametrize(
    "step",
    [
        started("/tmp/claude"),
        started(LAUNCHER, argv0="rg"),
        started(LAUNCHER, user_namespace=True),
        started(LAUNCHER, observed=False),
        started("/home/u/.local/share/claude/versions/evil"),
        started("./claude"),
    ],
    ids=["elsewhere", "another role", "a user namespace", "unseen", "no version", "relative"],
)
def test_a_stranger_is_not_taken_for_an_update(step):
    assert find_updated(evidence(step), "claude", (enrollment(),)) is None


def test_another_users_or_agents_enrolment_does_not_count():
    assert find_updated(evidence(started(LAUNCHER), uid=1001), "claude", (enrollment(),)) is None
    assert find_updated(evidence(started(LAUNCHER)), "codex", (enrollment(),)) is None


def test_in_the_folder_of_everybodys_programs_only_the_agents_own_name_counts():
    everywhere = enrollment(path="/usr/bin/claude")
    assert find_updated(evidence(started("/usr/bin/claude")), "claude", (everywhere,)) is not None
    assert find_updated(evidence(started("/usr/bin/curl")), "claude", (everywhere,)) is None


def test_an_interpreted_agent_is_told_by_its_script():
    script = EnrolledScript("/opt/g/cli.js", "b" * 64, Bundle("/opt/g", "c" * 64, 1, 1))
    interpreted = enrollment(script, "/usr/bin/node")
    as_node = started("/usr/bin/node", argv0="node", args_head=("/opt/g/cli.js",))
    assert "(2.1.330)" in find_updated(evidence(as_node), "claude", (interpreted,)).sentence
    other = started("/usr/bin/node", argv0="node", args_head=("--require", "/tmp/x.js", "/opt/g/cli.js"))
    assert find_updated(evidence(other), "claude", (interpreted,)) is None


@pytest.fixture
def world(tmp_path):
    tmp_path.chmod(0o700)
    world = Broker(tmp_path)
    world.issuer._enrollments = lambda: (enrollment(),)
    yield world
    world.close()


async def test_an_updated_agent_reads_what_to_do_and_nothing_is_frozen(world):
    with pytest.raises(RefusedError) as caught:
        await world.issuer.issue(Ask(ScriptedCaller(evidence(started(NEW))), KEY, INJECT, "inject tcp"))

    assert caught.value.rule == "updated"
    assert "sudo agent-broker approve claude" in caught.value.explain()
    (alert,) = world.alerts
    assert (alert.kind, alert.severity) == ("agent-updated", "warning")


async def test_a_tool_below_the_updated_agent_is_still_an_intruder_by_injection(world):
    below = evidence(BASH, Step(5, started(NEW).image, "fork", exited=False))

    with pytest.raises(RefusedError) as caught:
        await world.issuer.issue(Ask(ScriptedCaller(below), KEY, INJECT, "inject tcp"))

    assert caught.value.rule == "principal"
    assert world.alerts[0].severity == "critical"


async def test_a_helper_below_the_updated_agent_reads_what_to_do(world):
    below = evidence(SHIM, Step(5, started(NEW).image, "fork", exited=False))

    with pytest.raises(RefusedError, match="is not what was enrolled"):
        await world.issuer.issue(Ask(ScriptedCaller(below), KEY, RELEASE, "agent.sock get"))


FACTS = EventFacts(1, 105, "e1", "observe+", SERVED)
DECOY = Mark("/home/u/.claude/.credentials.json", "claude", OWNER, deny=False, enrollment=enrollment())


def test_an_updated_agent_that_opens_its_decoy_is_warned_of_and_not_frozen():
    incident = decide_open(DECOY, evidence(started(NEW)), FACTS)

    assert (incident.kind, incident.severity) == ("decoy-opened", "warning")
    assert "is not what was enrolled (2.1.330)" in incident.what
    assert incident.next_step == "if you updated it: sudo agent-broker approve claude"


@pytest.mark.parametrize(
    "steps",
    [
        (BASH, Step(5, started(NEW).image, "fork", exited=False)),
        (started(NEW, taints=("its executable has no name (deleted, or made in memory)",)),),
        (started("/tmp/claude"),),
    ],
    ids=["its tool", "without a name", "elsewhere"],
)
def test_whoever_else_opens_the_decoy_is_an_intruder(steps):
    assert decide_open(DECOY, evidence(*steps), FACTS).severity == "critical"
