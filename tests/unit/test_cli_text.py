"""What the command line prints: folded, complete, and nothing that a terminal would obey."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_broker.cli.app import COMMANDS
from agent_broker.cli.diagnosis import CANNOT_SEE, TIERS, Diagnosis, Finding, diagnose
from agent_broker.cli.incident_text import incident_block, lineage_line
from agent_broker.cli.main import INTERRUPTED
from agent_broker.cli.terminal import cell, console, labelled, plural, printable, safe_json, table, when
from agent_broker.config.document import Config, Inject
from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError, RefusedError, UnavailableError
from agent_broker.ids import Pid, Uid
from agent_broker.monitor import tiers
from agent_broker.monitor.frameworks import KINDS
from agent_broker.transport.control_records import DaemonStatus
from tests.fakes.control import HASH, NOON_NS, decoy_opened, image, lineage, monitor_status

HOSTILE = "evil\x1b[2J\r\n\x9b31m\u202egnp.exe\x7f"
DECOY = "/home/alice/.claude/.credentials.json"
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
KEY = Finding("root key", "ok", "in a file")


def block(incident=None, columns: int = 80, *, colour: bool = False) -> str:
    return incident_block(incident or decoy_opened(), columns, colour=colour)


def rows(text: str) -> dict[str, str]:
    """Label to text, unfolded."""
    found: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        label, rest = line[:11].strip(), line[11:]
        last = label or list(found)[-1] if line.strip() else ""
        if last:
            found[last] = f"{found[last]} {rest}" if last in found else rest
    return found


def test_an_alert_says_all_that_a_person_needs() -> None:
    found = rows(block())
    assert block().startswith("CRITICAL  2026-09-2")
    assert found["path"] == DECOY
    assert found["done"] == "it was served the decoy, which opens nothing"
    assert found["tier"] == "observe+: opens can be denied while the monitor lives"
    assert found["process"].startswith("/tmp/scan/scanner, pid 4242, user 4711")
    assert found["command"] == f"scanner {DECOY}"
    assert found["sha256"] == HASH
    assert found["lineage"] == "scanner <- bash <- claude.exe <- bash"
    assert found["agent"] == "claude"
    assert all(word in found["maps to"] for word in ("T1552.001", "AML.T0083", "LLM02", "controlThreatDetection"))
    assert found["next"] == "look at what claude was asked to do, and by whom"


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    found = rows(block(decoy_opened((), process_sha256=None, agent=None, path="")))
    assert found["lineage"] == "unknown"
    assert found["sha256"] == "unknown: the executable could not be read"
    assert found["agent"] == "none in this lineage"
    assert "process" not in found
    assert "path" not in found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_a_block_ends_empty(kind: str, columns: int) -> None:
    text = block(
        decoy_opened(lineage(*[image(f"/opt/a folder/{'x' * 30}{n}", pid=n) for n in range(1, 30)]), kind=kind), columns
    )
    assert max(map(len, text.splitlines())) <= columns
    assert text.endswith("\n\n")
    assert "\n\n" not in text[:-2]


def test_a_hash_stays_on_one_line_of_80_columns() -> None:
    assert f"  sha256   {HASH}\n" in block()


def test_hostile_names_reach_the_terminal_as_text() -> None:
    text = block(
        decoy_opened(lineage(image(f"/tmp/{HOSTILE}", HOSTILE, "a b")), what=HOSTILE, path=HOSTILE, next_step=HOSTILE)
    )
    assert not OBEYED.search(text)
    assert r"evil\x1b[2J\r\n\x9b31m" in text


def test_a_name_cannot_forge_a_lineage() -> None:
    assert lineage_line(lineage(image("/tmp/scan <- claude"), image("/bin/bash"))) == "'scan <- claude' <- bash"


def test_colour_is_for_terminals_and_changes_nothing_else() -> None:
    incident = decoy_opened()
    plain, coloured = block(incident), block(incident, colour=True)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert "\x1b[1;31mCRITICAL\x1b[0m" in coloured


def test_long_commands_are_cut_and_say_so() -> None:
    found = rows(block(decoy_opened(lineage(image("/bin/x", "y" * 5000)))))
    assert found["command"].endswith(" ...")
    assert len(found["command"]) < 400


@settings(deadline=None)
@given(st.text())
def test_printable_text_is_printable_and_plain_text_is_left_alone(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(st.recursive(UNICODE | st.integers() | st.none(), lambda each: st.lists(each) | st.dictionaries(UNICODE, each)))
def test_safe_json_is_the_same_document(value: object) -> None:
    safe = safe_json(json.dumps(value, ensure_ascii=False).encode())
    assert json.loads(safe) == value
    assert not OBEYED.search(safe)


@settings(deadline=None)
@given(st.text(), st.integers(min_value=31, max_value=120))
def test_labelled_lines_fit(text: str, width: int) -> None:
    lines = labelled("label", text, width)
    assert lines[0].startswith("  label")
    assert all(len(line) <= width for line in lines)


def test_a_table_cell_shows_markup_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    shown = table("what")
    shown.add_row(cell("[red]/x[/red] :smile: \x1b[2J"))
    console().print(shown)
    assert r"[red]/x[/red] :smile: \x1b[2J" in capsys.readouterr().out


def test_pipes_get_long_lines_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console().print("x" * 200)
    assert "x" * 200 in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "80")
    console().print("x" * 200)
    assert "x" * 81 not in capsys.readouterr().out


def test_times_and_counts() -> None:
    assert re.fullmatch(r"2026-09-2\d \d\d:\d\d:20[+-]\d{4}", when(NOON_NS))
    assert re.fullmatch(r"2026-09-2\d \d\d:\d\d", when(NOON_NS, to_the="minute"))
    assert [plural(n, noun) for n, noun in ((1, "file"), (2, "file"), (0, "entry"), (3, "process"))] == [
        "1 file",
        "2 files",
        "0 entries",
        "3 processes",
    ]


def status(**changes: object) -> DaemonStatus:
    facts: dict[str, object] = {
        "version": "0.1.0",
        "pid": Pid(7),
        "uid": Uid(4000),
        "started_ns": NOON_NS,
        "root_key": "in a file",
        "peer_method": "SCM_PIDFD",
        "inject_endpoint": "127.0.0.1:917",
        "agents": 1,
        "credentials": 1,
        "policy_rules": 1,
        "grants_live": 0,
        "frozen": 0,
        "monitor": monitor_status(),
        "problems": (),
    }
    return DaemonStatus(**(facts | changes))  # type: ignore[arg-type]  # a test's shorthand


def states(diagnosis: Diagnosis) -> dict[str, str]:
    """Subject to its worst state."""
    order = ["ok", "warning", "failed"]
    found: dict[str, str] = {}
    for each in diagnosis.findings:
        found[each.subject] = max(found.get(each.subject, "ok"), each.state, key=order.index)
    return found


def test_a_healthy_machine() -> None:
    diagnosis = diagnose(status(), monitor_status(), Config(), KEY)
    assert diagnosis.healthy
    assert set(states(diagnosis).values()) == {"ok"}
    assert (diagnosis.tier, diagnosis.tier_means) == ("observe+", TIERS["observe+"])
    assert any("while the monitor is down" in each for each in diagnosis.cannot_see)


@pytest.mark.parametrize(
    ("subject", "broker", "monitor", "config"),
    [
        ("policy", {"policy_rules": 0}, {}, Config()),
        ("freezes", {"frozen": 2}, {}, Config()),
        ("broker", {"problems": ("one",)}, {}, Config()),
        ("callers", {"peer_method": "SO_PEERCRED+pidfd_open"}, {}, Config()),
        ("lost events", {}, {"lost_events": 1}, Config()),
        ("spool", {}, {"spool_dropped": 1}, Config()),
        ("spool", {}, {"incidents_unacknowledged": 1}, Config()),
        ("monitor", {}, {"problems": ("one",)}, Config()),
        ("configuration", {}, {}, Config(inject=Inject(port=1917))),
    ],
)
def test_what_a_person_should_know_is_a_warning(subject: str, broker: dict, monitor: dict, config: Config) -> None:
    diagnosis = diagnose(status(**broker), monitor_status(**monitor), config, KEY)
    assert diagnosis.healthy
    assert {name for name, state in states(diagnosis).items() if state == "warning"} == {subject}


@pytest.mark.parametrize("down", ["broker", "monitor", "config"])
def test_what_is_needed_and_down_is_a_failure(down: str) -> None:
    failed = Finding(down, "failed", "gone", "start it")
    diagnosis = diagnose(
        failed if down == "broker" else status(),
        failed if down == "monitor" else monitor_status(),
        failed if down == "config" else Config(),
        KEY,
    )
    assert not diagnosis.healthy
    assert states(diagnosis)[down] == "failed"
    assert (diagnosis.tier == "unknown") == (down == "monitor")


def test_a_broker_that_is_root_is_a_failure() -> None:
    assert not diagnose(status(uid=Uid(0)), monitor_status(), Config(), KEY).healthy


def test_every_tier_has_a_meaning_and_its_gaps_and_a_strange_one_promises_nothing() -> None:
    assert set(TIERS) == set(CANNOT_SEE)
    assert all(CANNOT_SEE.values())
    strange = diagnose(status(), monitor_status(tier="super"), Config(), KEY)
    assert strange.cannot_see == CANNOT_SEE["unknown"]


def test_the_tiers_are_those_of_the_monitor() -> None:
    assert {tiers.OBSERVE_PLUS, tiers.OBSERVE, tiers.NONE} <= set(TIERS)


def test_the_page_for_scripts_knows_every_command_and_exit_code() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    assert [name for name in COMMANDS if f"`{name}" not in page] == []
    families = (AgentBrokerError, MisuseError, RefusedError, UnavailableError, IntegrityError)
    codes = {family.exit_code for family in families} | {0, INTERRUPTED}
    assert codes == {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
