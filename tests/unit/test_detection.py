"""Who is exempt at a decoy, how bad an event is, and what a person reads about it."""

import msgspec
import pytest

from agent_broker.identity.evidence import Evidence, Freshness, Principal, ToolUse, Unchanged, Unknown
from agent_broker.monitor.detection import (
    DENIED,
    ONLY_SEEN,
    SERVED,
    EventFacts,
    decide_change,
    decide_missed,
    decide_open,
    is_exempt,
    printable,
)
from agent_broker.monitor.fold import Folder, Seen
from agent_broker.monitor.glimpse import Glimpse, offender_of
from agent_broker.monitor.lines import Line
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.messages import MAX_MESSAGE_BYTES, IncidentPush
from tests.fakes.lineage_records import a_lineage, a_step

DECOY = Mark("/home/ann/.claude/.credentials.json", "claude", 1000, deny=False)
FRESH = Freshness("e1", 7, 7, 0)
LINEAGE = a_lineage(7, 8, 9)


def principal(*, agent="claude", owner=1000, caller=False):
    depth = 0 if caller else 2
    return Principal(agent, owner, 7 if caller else 9, 9, "a" * 64, is_caller=caller, depth=depth)


def evidence(who=None, *, uid=1000, taints=()):
    return Evidence(FRESH, uid, LINEAGE, who, taints, "observe+")


def facts(**given):
    return EventFacts(**{"time_ns": 5, "pid": 4007, "epoch": "e1", "tier": "observe+", "action": SERVED, **given})


AGENT = evidence(principal(caller=True))
OPENERS = {
    "the decoy's agent": (AGENT, None),
    "the agent, tainted": (evidence(principal(caller=True), taints=("LD_PRELOAD is set",)), "critical"),
    "another agent": (evidence(principal(agent="codex", caller=True)), "critical"),
    "the same agent of another user": (evidence(principal(owner=1001, caller=True), uid=1001), "critical"),
    "the agent running as another user": (evidence(principal(caller=True), uid=1001), "critical"),
    "a child of the agent": (evidence(principal()), "critical"),
    "a stranger": (evidence(), "critical"),
    "a stranger of another user": (evidence(uid=1001), "critical"),
    "root": (evidence(uid=0), "info"),
    "root below an agent": (evidence(principal(), uid=0), "critical"),
    "unknown": (Unknown("events were lost"), "critical"),
    "unknown, with a lineage": (Unknown("events were lost", uid=1000, steps=LINEAGE), "critical"),
    "unknown root": (Unknown("it was gone", uid=0, steps=LINEAGE), "warning"),
    "no answer at all": (Unchanged(FRESH), "critical"),
}


@pytest.mark.parametrize(("verdict", "severity"), OPENERS.values(), ids=OPENERS.keys())
def test_an_open(verdict, severity):
    incident = decide_open(DECOY, verdict, facts())

    assert (incident and incident.severity) == severity
    assert is_exempt(verdict, DECOY) == (severity is None)


REPLACERS = OPENERS | {"root": (evidence(uid=0), None)}


@pytest.mark.parametrize(("verdict", "severity"), REPLACERS.values(), ids=REPLACERS.keys())
def test_a_replacement(verdict, severity):
    incident = decide_change(DECOY, verdict, facts(action=ONLY_SEEN), "deleted")

    assert (incident and incident.severity) == severity
    assert incident is None or (incident.kind, incident.action) == ("decoy-replaced", "only-seen")


def test_an_incident_holds_everything_a_person_needs():
    incident = decide_open(DECOY, evidence(principal()), facts(sha256="b" * 64))

    assert incident.kind == "decoy-opened"
    assert (incident.path, incident.agent, incident.process_sha256) == (DECOY.path, "claude", "b" * 64)
    assert (incident.lineage, incident.epoch, incident.time_ns) == (LINEAGE, "e1", 5)
    assert incident.offenders == (7, 8)  # not the agent's main process, which is 9
    assert "T1552.001" in incident.frameworks.attack
    assert incident.what == (
        "/usr/bin/scanner (pid 4007, uid 1000), started by the agent claude, opened the decoy "
        "/home/ann/.claude/.credentials.json and was served it"
    )
    assert "what claude was asked to do" in incident.next_step


@pytest.mark.parametrize(
    ("action", "said"), [(SERVED, "and was served it"), (DENIED, "and was denied"), (ONLY_SEEN, "not stopped")]
)
def test_the_sentence_says_what_was_done(action, said):
    incident = decide_open(DECOY, evidence(), facts(action=action))

    assert said in incident.what
    assert incident.action == action


def test_the_sentence_says_why_the_opener_is_unknown():
    incident = decide_open(DECOY, Unknown("3 kernel events were lost"), facts())

    assert incident.what.startswith("a process (pid 4007) opened the decoy")
    assert "its lineage is unknown: 3 kernel events were lost" in incident.what
    assert incident.offenders == ()


def test_the_sentence_names_what_taints_the_agent():
    verdict = evidence(principal(caller=True), taints=("LD_PRELOAD is set",))

    incident = decide_open(DECOY, verdict, facts())

    assert "which is the agent claude, tainted, opened" in incident.what
    assert "tainted: LD_PRELOAD is set" in incident.what


def test_the_sentence_tells_the_other_name_and_the_missing_hash():
    told = facts(other_name="/tmp/link", hash_problem="its executable was gone")

    what = decide_open(DECOY, evidence(), told).what

    assert "as /tmp/link" in what
    assert what.endswith("; its executable was gone")


def test_names_chosen_by_an_attacker_can_not_drive_a_terminal():
    step = a_step(7)
    image = msgspec.structs.replace(step.image, filename="/tmp/\x1b[2J\u202e" + "A" * 500)
    verdict = Unknown("gone", steps=(msgspec.structs.replace(step, image=image),))

    what = decide_open(DECOY, verdict, facts(other_name="a\nb")).what

    assert what.isascii()
    assert what.isprintable()
    assert len(what) < 500


def test_the_longest_lineage_does_not_make_an_incident_too_long_to_be_told():
    step = a_step(7)
    names = {"filename": "\\x01" * 256, "interp": "\\x01" * 128, "argv0": "\\x01" * 256, "args_head": ("",) * 256}
    taints = tuple(f"its environment sets X{number}: {'y' * 100}" for number in range(8))
    image = msgspec.structs.replace(step.image, **names, taints=taints)
    steps = (msgspec.structs.replace(step, image=image, sha256="ab" * 32),) * 128
    verdict = msgspec.structs.replace(evidence(principal(caller=True), taints=taints * 128), steps=steps)

    incident = decide_open(DECOY, verdict, facts(other_name="/" + "z" * 4000, hash_problem="p" * 300))

    wide = "\U0001f480" * 100_000
    offender = offender_of(Glimpse(arguments=wide.encode(), cwd=wide.encode()), steps, "p" * 300)
    folder = Folder(per_family=1)
    whole = msgspec.structs.replace(incident, offender=offender)
    for number in range(200):
        seen = Seen(incident.kind, incident.action, incident.severity, f"/{number}/{'d' * 4000}", 0)
        folder.add(Line(number, 1, 7, number), seen, 0, lambda: whole)
    for told in folder.close():
        assert len(msgspec.msgpack.encode(IncidentPush(1, 1, told))) < MAX_MESSAGE_BYTES
    assert "101 steps in the middle of its lineage are left out" in incident.what
    assert (len(incident.lineage), incident.lineage[0], incident.lineage[-1]) == (27, steps[0], steps[-1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1bb", "a\\x1bb"),
        ("é", "\\xe9"),
        ("\udcff", "\\udcff"),
        ("x" * 120, "x" * 120),
        (f"/home/{'x' * 200}/bin/scan", f"/home/{'x' * 34}...{'x' * 71}/bin/scan"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_a_missed_event_is_told_without_a_culprit():
    missed = decide_missed("too many events at once", facts(action=ONLY_SEEN))

    assert (missed.severity, missed.offenders) == ("critical", ())
    assert "too many events at once" in missed.what


def ssh(*, proc_id=7, exec_id=7, owner=1000, problem="", tool="claude", taints=(), uid=1000):
    use = ToolUse(tool, owner, proc_id, exec_id, "a" * 64, problem)
    return msgspec.structs.replace(evidence(uid=uid, taints=taints), tool=use)


@pytest.mark.parametrize(
    ("verdict", "exempt"),
    [
        (ssh(), True),
        (ssh(proc_id=8), False),  # what the tool started
        (ssh(owner=1001), False),
        (ssh(uid=1001), False),
        (ssh(tool="git"), False),
        (ssh(problem="it does not ask through the shim"), True),  # aws, which reads its own files
        (ssh(exec_id=6, problem="something stands between"), False),
        (ssh(taints=("LD_PRELOAD is set",)), False),
    ],
)
def test_a_tool_may_open_its_own_decoy_itself(verdict, exempt):
    """As ssh does, to see whether an identity is there."""
    assert is_exempt(verdict, DECOY) == exempt
