"""One line an alert: it fits, it says the most telling part, and nothing in it is obeyed."""

import re
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from agent_broker.cli.alert_rows import PIPE_COLUMNS, Table, fit, lines, row_of, short_count, update_line, who
from agent_broker.cli.spans import clock, day, parse_since, parse_span, span
from agent_broker.errors import MisuseError
from tests.fakes.control import NOON_NS, decoy_opened, image, lineage
from tests.fakes.incidents import HOSTILE, SECOND_NS, backup, hostile, opened_credential, opened_decoy

NOW = NOON_NS + 60 * SECOND_NS
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EVERY = [
    opened_decoy(),
    opened_credential(),
    backup(),
    hostile(),
    decoy_opened(()),
    decoy_opened(path="/漢字/" + "漢字" * 40),
]


def table(incidents=EVERY, columns=80, *, colour=False):
    return "".join(lines([row_of(each, NOW, columns) for each in incidents], columns, colour=colour))


def follower(incidents=EVERY, columns=80):
    shown = Table(columns, colour=False)
    return shown.head() + "".join(shown.line(row_of(each, NOW, columns)) for each in incidents)


def test_80_columns_show_time_severity_kind_who_path_count_and_id():
    head, line, other = table([opened_decoy(), opened_credential()]).splitlines()
    assert head.split() == ["time", "severity", "kind", "who", "path", "n", "id"]
    at = clock(NOON_NS + 41 * SECOND_NS)
    assert " ".join(line.split()) == f"{at} critical decoy-opened scanner <- claude ….credentials.json +1 3 4f1d0c9"
    assert " ".join(other.split()[2:-2]) == "credential-… scanner <- claude …ice/.aws/credentials"


def test_columns_stand_below_each_other():
    shown = table([opened_decoy(), opened_credential(), backup()]).splitlines()
    for name in ("severity", "kind", "who", "id"):
        column = shown[0].index(f" {name}") + 1
        assert {line[column - 1] for line in shown} == {" "}
        assert " " not in {line[column] for line in shown}


@pytest.mark.parametrize("columns", [30, 40, 60, 69, 70, 79, 80, 100, 110, 200])
@pytest.mark.parametrize("show", [table, follower])
def test_no_line_is_wider_than_the_terminal(columns, show):
    shown = show(columns=columns).splitlines()
    assert max(cell_len(line) for line in shown) <= columns
    assert len(shown) == len(EVERY) + 1 or columns < 70


def test_a_narrow_terminal_gets_two_lines_with_all_of_it():
    first, second = table([opened_decoy()], 60).splitlines()
    assert (first.split()[-3:], "critical" in first) == (["3", "times", "4f1d0c9"], True)
    assert second.strip().startswith("scanner <- claude  ")
    assert second.endswith(".credentials.json +1")


def test_a_pipe_gets_whole_paths_and_times():
    long = "/home/alice/" + "deep/" * 100 + "credentials"
    line = table([opened_decoy(path=long)], PIPE_COLUMNS).splitlines()[1]
    assert long in line
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line)
    assert "\x1b" not in line


def test_colour_marks_the_severity_and_changes_nothing_else():
    coloured = table(colour=True)
    assert "\x1b[1;31mcritical\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == table()


def test_hostile_texts_are_shown_as_text():
    for columns in (40, 80, PIPE_COLUMNS):
        assert not OBEYED.search(table(columns=columns) + follower(columns=columns))
    assert not OBEYED.search(update_line(hostile(), 80))


def test_who_is_the_program_and_its_agent_or_its_user():
    assert who(opened_decoy()) == "scanner <- claude"
    assert who(backup()) == "rsync of 4711"
    assert who(decoy_opened(())) == "unknown"
    assert who(decoy_opened(lineage(image("/tmp/x <- claude")), agent=None)) == "'x <- claude' of 4711"
    assert "\x1b" not in who(decoy_opened(lineage(image(f"/tmp/{HOSTILE}"))))


def test_the_home_of_the_opener_is_a_tilde():
    root = msgspec.structs.replace(image("/bin/cat"), uid=0)
    assert row_of(decoy_opened(lineage(root), path="/root/.aws/credentials"), NOW, 80).path == "~/.aws/credentials"
    assert row_of(decoy_opened(lineage(root), path="/rooted/x"), NOW, 80).path == "/rooted/x"


def test_the_time_is_that_of_the_last_event_and_of_another_day_a_date():
    assert row_of(opened_decoy(), NOW, 80).when == clock(NOON_NS + 41 * SECOND_NS)
    assert row_of(opened_decoy(), NOW + 3 * 86_400 * SECOND_NS, 80).when == day(NOON_NS)


def test_an_update_says_how_often_and_until_when():
    grown = opened_decoy(count=1234, last_ns=NOON_NS)
    assert update_line(grown, 80) == f"... 4f1d0c9 1,234 times until {clock(NOON_NS)}\n"


def test_counts_fit_four_columns():
    shown = [short_count(n) for n in (1, 999, 1000, 9_949, 10_000, 999_999, 1_000_000, 10**9, 10**12)]
    assert shown == ["1", "999", "1.0k", "9.9k", "10k", "999k", "1.0M", "1.0G", "many"]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Mn", "Me", "Cf"])), st.integers(0, 40), st.booleans())
def test_fitted_text_has_the_width(text, columns, keep_end):
    assert cell_len(fit(text, columns, keep_end=keep_end)) == columns


def test_lengths_of_time():
    assert [span(int(s * SECOND_NS)) for s in (0, 0.002, 0.21, 42, 180, 7500, 7200, 400_000)] == [
        "under 1 ms",
        "2 ms", "0.2 s", "42 s", "3 min", "2 h 5 min", "2 h", "4 days",
    ]  # fmt: skip
    assert [parse_span(text) // SECOND_NS for text in ("90s", "2m", "2h", "1d", "1w")] == [90, 120, 7200, 86400, 604800]


def test_since_is_a_length_of_time_or_a_date(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert parse_since("2h", NOW) == NOW - 7200 * SECOND_NS
        assert parse_since("2026-11-22", NOW) == 1795302000 * SECOND_NS  # date -d '2026-11-22 CET' +%s
        assert parse_since("2026-11-22T12:30+00:00", NOW) == 1795350600 * SECOND_NS
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "0h", "2y", "yesterday", "2026-13-01", "٣h", "9" * 30 + "d"])
def test_what_is_no_time_is_misuse(text):
    with pytest.raises(MisuseError):
        parse_since(text, NOW)
