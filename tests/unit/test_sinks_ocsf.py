"""OCSF events are what the published schema says, whatever an incident holds; the file that takes them is bounded."""

import json
import os
import stat

import jsonschema
import msgspec
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from agent_broker.audit.sinks.json_lines import JsonLines
from agent_broker.audit.sinks.ocsf import VERSION, detection_finding
from agent_broker.errors import RefusedError, UnavailableError
from agent_broker.monitor.frameworks import KINDS
from agent_broker.monitor.incident import Offender, new_incident
from tests.fakes.lineage_records import a_step
from tests.fakes.receivers import a_full_incident, a_whole_incident, an_incident
from tests.fakes.small_disk import fill, small_disk

ACTIONS = ("served-decoy", "denied", "refused", "only-seen", "approved", "something-new")


@pytest.fixture(scope="session")
def schemas():
    """The published Detection Finding with the profiles that we use; a field that it does not know is refused."""
    made = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))

    def schema(profiles):
        found = made.get_class_schema("detection_finding", profiles=list(profiles))
        return jsonschema.Draft202012Validator(found)

    return {profiles: schema(profiles) for profiles in (("security_control",), ("security_control", "container"))}


def faults(schemas, event):
    validator = schemas[tuple(event["metadata"]["profiles"])]
    return [f"{each.json_path}: {each.message[:200]}" for each in validator.iter_errors(json.loads(json.dumps(event)))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_valid(schemas, kind):
    for severity in ("info", "warning", "critical"):
        incident = new_incident(kind=kind, time_ns=1, severity=severity, what="x", tier="none", action="only-seen")
        assert faults(schemas, detection_finding(incident, 1)) == []


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_valid(schemas, action):
    incident = new_incident(
        kind="decoy-opened", time_ns=1, severity="critical", what="x", tier="observe", action=action,
        lineage=(a_step(8, "self"), a_step(8, "exec"), a_step(1)), path="the inject endpoint",
    )  # fmt: skip
    assert faults(schemas, detection_finding(incident, 1)) == []


def test_a_full_one_is_valid_and_says_it_all(schemas):
    event = detection_finding(a_full_incident(), 7)
    assert faults(schemas, event) == []
    assert (event["class_uid"], event["type_uid"], event["severity_id"]) == (2004, 200401, 5)
    assert event["metadata"]["sequence"] == 7
    evidence = event["evidences"][0]
    assert evidence["file"]["path"] == a_full_incident().path
    assert evidence["process"]["file"]["hashes"][0]["value"] == "ab" * 32
    assert evidence["process"]["pid"] == 4008
    assert [each["pid"] for each in evidence["process"]["ancestry"]] == [4007, 4001]
    assert evidence["container"]["uid"] == "abc123"
    assert {"uid": "T1552"} in [each["technique"] for each in event["finding_info"]["attacks"]]
    assert {"name": "agent", "value": "claude"} in event["finding_info"]["tags"]


def test_a_whole_one_is_valid_and_every_field_has_its_place(schemas):
    incident = a_whole_incident()
    offender = incident.offender
    event = detection_finding(incident, 7)
    assert faults(schemas, event) == []

    tags = {each["name"]: each.get("value") or tuple(each["values"]) for each in event["finding_info"]["tags"]}
    assert tags == {
        "tier": incident.tier,
        "agent": incident.agent,
        "session": incident.session,
        "role": incident.role,
        "holds": incident.holds,
        "package": offender.package,
        "grants": incident.grants,
        "boot_ns": str(incident.boot_ns),
        "owasp": incident.frameworks.owasp,
        "saif": incident.frameworks.saif,
        "changes": incident.changes,
    }
    assert (event["status_detail"], event["remediation"]["desc"]) == (incident.response, incident.next_step)
    assert event["metadata"]["correlation_uid"] == incident.session
    assert event["metadata"]["profiles"] == ["security_control", "container"]
    first, further = event["evidences"]
    assert first["container"] == {"uid": offender.container}
    assert further["file"]["path"] == incident.paths[0]
    process = first["process"]
    assert process["cmd_line"] == " ".join(offender.command)
    assert process["working_directory"] == offender.cwd
    assert process["file"]["hashes"][0]["value"] == incident.process_sha256
    assert [each["pid"] for each in process["ancestry"]] == [4444, 4001]
    assert process["parent_process"]["pid"] == 4444
    assert process["parent_process"]["file"]["hashes"][0]["value"] == "cd" * 32
    assert event["unmapped"]["command"] == list(offender.command)
    assert [(each["relation"], each["pid"], each["sha256"]) for each in event["unmapped"]["lineage"]] == [
        ("self", 4008, incident.process_sha256),
        ("exec", 4008, None),
        ("fork", 4444, "cd" * 32),
        ("fork", 4001, "ef" * 32),
    ]
    assert event["unmapped"]["lineage"][2]["taints"] == ["somebody traced it"]


def test_no_text_of_an_incident_is_left_out():
    incident = a_whole_incident()
    kept = set(texts_of(detection_finding(incident, 7)))

    assert {field for field in incident.__struct_fields__ if not getattr(incident, field)} == set(), "the fake has it"
    told = msgspec.to_builtins(incident)
    assert set(texts_of([told[name] for name in told.keys() - BY_ID])) - kept == set()


def test_a_revision_is_an_update_of_the_same_finding(schemas):
    first = detection_finding(an_incident(), 1)
    incident = an_incident()
    again = msgspec.structs.replace(incident, revision=3, count=12, last_ns=incident.time_ns + 10**9)
    second = detection_finding(again, 2)
    assert faults(schemas, second) == []
    assert (first["activity_id"], second["activity_id"], second["count"]) == (1, 2, 12)
    assert second["finding_info"]["uid"] == incident.id
    assert second["end_time"] == second["start_time"] + 1000


def test_the_schema_would_notice(schemas):
    event = detection_finding(an_incident(), 1)
    assert faults(schemas, {**event, "severity_id": 77})
    assert faults(schemas, {key: value for key, value in event.items() if key != "finding_info"})
    assert faults(schemas, {**event, "evidences": [{"process": {"pid": "one"}}]})
    assert faults(schemas, {**event, "lineage": []})


BY_ID = {"action", "severity", "epoch", "frameworks", "lineage"}
"""Fields that OCSF says in its own words, or as a part of another text; asserted above, each by itself."""


def texts_of(made):
    """Every text in a structure."""
    if isinstance(made, str):
        yield made
    elif isinstance(made, dict | list | tuple):
        for each in made.values() if isinstance(made, dict) else made:
            yield from texts_of(each)


def sink(path, **options):
    settings = {"max_bytes": 1 << 20, "keep": 2, "mapping": detection_finding, **options}
    return JsonLines(path, severity="info", **settings)


def read(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_lines_are_events_for_the_brokers_group_alone(tmp_path, schemas):
    path = tmp_path / "alerts.jsonl"
    await sink(path).deliver(a_full_incident(), 1)
    await sink(path).deliver(an_incident(1), 2)
    assert [faults(schemas, event) for event in read(path)] == [[], []]
    assert [event["metadata"]["sequence"] for event in read(path)] == [1, 2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_files_are_bounded_and_turned_over(tmp_path):
    path = tmp_path / "alerts.jsonl"
    lines = sink(path, max_bytes=500, mapping=lambda _, number: {"number": number, "fill": "x" * 180})
    for number in range(1, 13):
        await lines.deliver(an_incident(), number)
    found = {each.name: [event["number"] for event in read(each)] for each in tmp_path.iterdir()}
    assert found == {"alerts.jsonl": [11, 12], "alerts.jsonl.1": [9, 10], "alerts.jsonl.2": [7, 8]}
    with pytest.raises(RefusedError, match="longer than its file may be"):
        await sink(path, max_bytes=100).deliver(an_incident(), 13)


async def test_a_half_written_line_is_cut_off(tmp_path):
    path = tmp_path / "alerts.jsonl"
    await sink(path).deliver(an_incident(), 1)
    with path.open("ab") as file:
        file.write(b'{"torn": "' + b"x" * 200_000)
    await sink(path).deliver(an_incident(), 2)
    assert [event["metadata"]["sequence"] for event in read(path)] == [1, 2]


async def test_a_full_disk_is_tried_again_and_leaves_no_half_line(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        lines = sink(disk / "alerts.jsonl")
        await lines.deliver(an_incident(), 1)
        filler = fill(disk)
        number = 2
        with pytest.raises(UnavailableError, match="No space left"):
            for number in range(2, 50):  # the last page has room for some
                await lines.deliver(an_incident(), number)
        filler.unlink()
        await lines.deliver(an_incident(), number)
        assert [event["metadata"]["sequence"] for event in read(disk / "alerts.jsonl")] == list(range(1, number + 1))


async def test_a_line_that_the_disk_still_takes_is_not_joined_by_another(tmp_path):
    lines = sink(tmp_path / "alerts.jsonl")
    with lines._writing, pytest.raises(UnavailableError, match="an earlier line is still being written"):
        await lines.deliver(an_incident(), 1)
    await lines.deliver(an_incident(), 1)
    assert len(read(tmp_path / "alerts.jsonl")) == 1


@pytest.mark.parametrize("trap", ["link", "hard link", "pipe", "folder", "open folder", "linked folder"])
async def test_where_another_user_could_have_put_something_nothing_is_written(tmp_path, trap):
    folder, victim = tmp_path / "log", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"precious")
    path = folder / "alerts.jsonl"
    match trap:
        case "link":
            path.symlink_to(victim)
        case "hard link":
            path.hardlink_to(victim)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "open folder":
            folder.chmod(0o777)
        case "linked folder":
            (tmp_path / "other").symlink_to(folder)
            path = tmp_path / "other/alerts.jsonl"
    with pytest.raises(UnavailableError):
        await sink(path).deliver(an_incident(), 1)
    assert victim.read_bytes() == b"precious"


def test_offenders_without_a_container_claim_no_profile(schemas):
    event = detection_finding(an_incident(offender=Offender(command=("x",))), 1)
    assert event["metadata"]["profiles"] == ["security_control"]
    assert faults(schemas, event) == []
