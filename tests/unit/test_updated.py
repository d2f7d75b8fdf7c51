"""A new version in an enrolled agent's place is refused with what to do about it, and freezes nothing."""

import msgspec
import pytest

from agent_broker.errors import RefusedError
from agent_broker.identity.evidence import Unknown
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
from agent_broker.monitor.detection import SERVED, EventFacts, decide_open, gist_of
from agent_broker.monitor.mark import Mark
from tests.unit.test_issue import BASH, KEY, OWNER, SHIM, Broker, ScriptedCaller, evidence, image, principal

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
    found = find_updated(evidence(as_node), "claude", (interpreted,))
    assert found.sentence == "claude at /opt/g/cli.js is not what was enrolled (2.1.330)"
    other = started("/usr/bin/node", argv0="node", args_head=("--require", "/tmp/x.js", "/opt/g/cli.js"))
    assert find_updated(evidence(other), "claude", (interpreted,)) is None


def test_an_enrolled_option_of_the_interpreter_may_stand_before_the_script_and_no_other():
    """As of Gemini's second process, after its Node was updated."""
    script = EnrolledScript("/opt/g/cli.js", "b" * 64, Bundle("/opt/g", "c" * 64, 1, 1))
    role = RoleRule(("node",), interpreter_options=(r"--max-old-space-size=[0-9]+",))
    interpreted = msgspec.structs.replace(enrollment(script, "/usr/bin/node"), role=role)
    relaunched = started("/usr/bin/node", argv0="node", args_head=("--max-old-space-size=99", "/opt/g/cli.js", "-p"))
    assert find_updated(evidence(relaunched), "claude", (interpreted,)) is not None
    other = started("/usr/bin/node", argv0="node", args_head=("--require=/tmp/x.js", "/opt/g/cli.js"))
    assert find_updated(evidence(other), "claude", (interpreted,)) is None


@pytest.fixture
def world(tmp_path):
    tmp_path.chmod(0o700)
    world = Broker(tmp_path)
    world.issuer._enrollments = lambda: (enrollment(),)
    yield world
    world.close()


SCRIPT = EnrolledScript("/opt/g/cli.js", "b" * 64, Bundle("/opt/g", "c" * 64, 1, 1))
PACKAGE_TAINT = "its package is not what was enrolled"


def interpreted(*steps, is_caller=True, **changes):
    """An interpreted agent whose package was replaced before it was started, or what is below it."""
    steps = steps or (started("/usr/bin/node", argv0="node"),)
    made = evidence(*steps, who=principal(is_caller=is_caller), taints=(PACKAGE_TAINT,))
    return msgspec.structs.replace(made, **{"is_updated": True, **changes})


BELOW = (BASH, Step(5, started("/usr/bin/node", argv0="node").image, "fork", exited=False))


async def refusal_of(world, verdict, mode=INJECT):
    world.issuer._enrollments = lambda: (enrollment(SCRIPT, "/usr/bin/node"),)
    with pytest.raises(RefusedError) as caught:
        await world.issuer.issue(Ask(ScriptedCaller(verdict), KEY, mode, "inject tcp"))
    return caught.value, world.alerts[0]


async def test_an_interpreted_agent_with_another_package_reads_what_to_do_and_nothing_is_frozen(world):
    refusal, alert = await refusal_of(world, interpreted())

    assert (refusal.rule, alert.kind, alert.severity) == ("updated", "agent-updated", "warning")
    assert "claude at /opt/g is not what was enrolled (2.1.330)" in refusal.message
    assert "sudo agent-broker approve claude" in refusal.explain()


async def test_who_runs_the_script_by_another_interpreter_reads_which_one_is_enrolled_and_is_no_update(world):
    """As after a switch of a version manager; any program could have these names, so it stays critical."""
    other = started("/opt/node26/bin/node", argv0="claude", args_head=("/opt/g/cli.js", "-p"))

    refusal, alert = await refusal_of(world, evidence(other))

    assert refusal.message == "claude was started with /opt/node26/bin/node, and is enrolled with /usr/bin/node"
    assert "preserve-env=PATH agent-broker enroll claude" in refusal.explain()
    assert (refusal.rule, alert.severity) == ("principal", "critical")


async def test_a_program_of_another_name_with_the_script_as_its_argument_is_a_stranger(world):
    stranger = started("/usr/bin/curl", argv0="curl", args_head=("/opt/g/cli.js",))

    assert (await refusal_of(world, evidence(stranger)))[0].message.startswith("the caller is not claude")


async def test_an_interpreted_agent_that_anything_else_taints_is_no_update(world):
    both = interpreted(taints=(PACKAGE_TAINT, "NODE_OPTIONS"), is_updated=False)

    refusal, alert = await refusal_of(world, both)

    assert (refusal.rule, alert.kind, alert.severity) == ("taint", "agent-tainted", "critical")


async def test_a_tool_below_an_updated_interpreted_agent_is_still_an_intruder_by_injection(world):
    refusal, alert = await refusal_of(world, interpreted(*BELOW, is_caller=False))

    assert (refusal.rule, alert.severity) == ("principal", "critical")


async def test_a_helper_below_an_updated_interpreted_agent_reads_what_to_do(world):
    helper = (SHIM, Step(5, started("/usr/bin/node", argv0="node").image, "fork", exited=False))

    refusal, _ = await refusal_of(world, interpreted(*helper, is_caller=False), RELEASE)

    assert refusal.rule == "updated"


async def test_an_updated_agent_reads_what_to_do_and_nothing_is_frozen(world):
    with pytest.raises(RefusedError) as caught:
        await world.issuer.issue(Ask(ScriptedCaller(evidence(started(NEW))), KEY, INJECT, "inject tcp"))

    assert caught.value.rule == "updated"
    assert "sudo agent-broker approve claude" in caught.value.explain()
    (alert,) = world.alerts
    assert (alert.kind, alert.severity) == ("agent-updated", "warning")


SHARED = "2 processes hold the connection, and exactly one process must"


async def refused_although_unknown(world, mode=INJECT, **facts):
    verdict = Unknown(SHARED, uid=OWNER, steps=(started(NEW),), **facts)
    with pytest.raises(RefusedError) as caught:
        await world.issuer.issue(Ask(ScriptedCaller(verdict), KEY, mode, "inject tcp"))
    return caught.value, world.alerts[0]


async def test_an_updated_agent_whose_child_holds_its_connection_is_no_replay_if_it_alone_wrote(world):
    refusal, alert = await refused_although_unknown(world, writer=evidence(started(NEW)))

    assert (refusal.rule, alert.kind, alert.severity) == ("updated", "agent-updated", "warning")
    assert SHARED in refusal.detail
    assert "sudo agent-broker approve claude" in refusal.explain()


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"writer": evidence(started("/tmp/claude"))},
        {"writer": evidence(BASH, Step(5, started(NEW).image, "fork", exited=False))},
    ],
    ids=["nobody knows who wrote", "a stranger wrote", "a tool of it wrote"],
)
async def test_whoever_else_shares_a_connection_presented_a_phantom_that_is_not_its_own(world, facts):
    refusal, alert = await refused_although_unknown(world, **facts)

    assert (refusal.rule, alert.kind) == ("lineage", "phantom-replayed")


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


ITS_DECOY = Mark(DECOY.path, "claude", OWNER, deny=False, enrollment=enrollment(SCRIPT, "/usr/bin/node"))
OWN_FILE = Mark("/home/u/.claude.json", None, OWNER, deny=False, role="credential", agents=("claude",))
OTHER_FILE = Mark("/home/u/.aws/credentials", None, OWNER, deny=False, role="credential", agents=("other",))


@pytest.mark.parametrize("mark", [ITS_DECOY, OWN_FILE], ids=["its decoy", "its own file"])
def test_an_updated_interpreted_agent_that_opens_what_is_its_own_is_warned_of_and_not_frozen(mark):
    incident = decide_open(mark, interpreted(), FACTS)

    assert incident.severity == gist_of(mark, interpreted()).severity == "warning"
    assert incident.next_step == "if you updated it: sudo agent-broker approve claude"


@pytest.mark.parametrize(
    ("mark", "verdict"),
    [
        (ITS_DECOY, interpreted(*BELOW, is_caller=False)),
        (OWN_FILE, interpreted(*BELOW, is_caller=False)),
        (ITS_DECOY, interpreted(is_updated=False)),
        (OWN_FILE, interpreted(is_updated=False)),
        (OTHER_FILE, interpreted()),
    ],
    ids=["its tool, the decoy", "its tool, its file", "tainted, the decoy", "tainted, its file", "anything else"],
)
def test_what_else_is_opened_below_or_by_a_changed_interpreted_agent_is_critical(mark, verdict):
    assert decide_open(mark, verdict, FACTS).severity == "critical"
