"""``agent-broker paths``: what is shown, what is written, and that the monitor is told."""

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from agent_broker.cli import paths_view
from agent_broker.cli.main import main
from agent_broker.cli.paths import seconds_of
from agent_broker.config.layout import Layout
from agent_broker.errors import MisuseError
from agent_broker.identity.allowed import load_allowed
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule, save_enrollment
from agent_broker.monitor.learning import Lessons, Proposal, load_lessons, save_lessons
from tests.fakes.control import FakeBroker, ServedBroker

UID = 4711
PROPOSAL = Proposal(
    1, "/usr/bin/grep", "ab" * 32, "grep 3.8-5", "/home/ann/.ssh/id_*", ("/home/ann/.ssh/id_\x1b[2J",), 7, UID,
    ("grep", "bash"), 1, 2,
)  # fmt: skip


class Machine:
    def __init__(self, folder, capsys):
        self.layout = Layout(folder)
        self.home = folder / "home"
        self.home.mkdir()
        for each in (self.layout.registry_folder, self.layout.allowed_folder, self.layout.learnt_file.parent):
            each.mkdir(parents=True)
        self.layout.config_folder.mkdir(parents=True)
        self._capsys = capsys

    def file(self, name):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
        return str(path)

    def enroll(self, *decoys):
        files = tuple(DecoyFile(each, "claude-oauth") for each in decoys)
        save_enrollment(
            self.layout.registry_folder, Enrollment("claude", UID, "ann", (), RoleRule(("claude",)), files, (), 0)
        )

    def run(self, *words):
        code = main(["paths", *words])
        out, err = self._capsys.readouterr()
        assert "--json" in words or all(len(line) <= 80 and line.isprintable() for line in out.splitlines())
        return code, out, err

    def json(self, *words):
        code, out, _ = self.run(*words, "--json")
        assert code == 0
        return json.loads(out)


@pytest.fixture
def machine(monkeypatch, capsys):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("AGENT_BROKER_ROOT", folder)
        monkeypatch.setenv("COLUMNS", "80")
        made = Machine(Path(folder), capsys)
        monkeypatch.setattr(paths_view, "home_of_user", lambda uid: str(made.home) if uid == UID else "")
        yield made


@pytest.fixture
def broker(machine):
    world = FakeBroker()
    with ServedBroker(world, machine.layout.root):
        yield world


def test_the_list_counts_the_files_and_says_who_may(machine):
    machine.file(".ssh/id_a")
    machine.file(".ssh/id_b")
    machine.file(".ssh/id_b.pub")
    machine.file(".netrc")
    machine.enroll(machine.file(".aws/credentials"))
    machine.layout.config_file.write_text('[paths]\nextra = ["~/mine/*"]\nignore = ["~/.netrc"]\n')
    machine.file("mine/a")

    rows = {each["pattern"]: each for each in machine.json("list")["paths"]}

    assert (rows["~/.ssh/id_*"]["files"], rows["~/.ssh/id_*"]["programs"][0]) == (2, "ssh")
    assert rows["~/.aws/credentials"]["files"] == 0  # a decoy lies there
    assert rows["~/mine/*"]["files"] == 1
    assert "~/.netrc" not in rows
    code, out, _ = machine.run("list")
    assert code == 0
    assert "~/.ssh/id_*" in out.replace("\n", "")
    assert "claude (agent)" in out
    assert "nobody" in out


def test_nothing_is_listed_if_it_is_switched_off(machine):
    machine.layout.config_file.write_text("[paths]\nenabled = false\n")

    assert machine.json("list") == {"paths": [], "allowed": []}


def test_learning_begins_ends_and_tells_the_monitor(machine, broker):
    before_ns = time.time_ns()

    until_ns = machine.json("learn", "--for", "30m")["until_ns"]

    assert before_ns + 1800e9 <= until_ns <= time.time_ns() + 1800e9
    assert load_lessons(machine.layout.learnt_file).until_ns == until_ns
    assert machine.json("learn", "--for", "0") == {"until_ns": 0}
    assert machine.run("learn")[1].startswith("learning until ")
    assert broker.reloads == 3


def test_without_a_broker_it_is_written_and_said(machine):
    code, _, err = machine.run("learn")

    assert code == 0
    assert "in force when the monitor starts" in err


def test_proposals_are_shown_with_their_evidence_and_without_what_a_terminal_obeys(machine):
    save_lessons(machine.layout.learnt_file, Lessons(0, (PROPOSAL,)))

    _, out, _ = machine.run("proposals")

    for text in ("/usr/bin/grep", "grep 3.8-5", "7 times", "grep < bash", "ab" * 32, "paths allow 1"):
        assert text in out
    assert machine.json("proposals")["proposals"][0]["count"] == 7


def test_no_proposals_says_what_to_do(machine):
    assert "paths learn" in machine.run("proposals")[2]


def test_a_proposal_is_allowed_listed_and_forbidden_again(machine, broker):
    save_lessons(machine.layout.learnt_file, Lessons(0, (PROPOSAL,)))

    made = machine.json("allow", "1", "--reason", "my search", "--expires", "30d")

    (record,) = load_allowed(machine.layout.allowed_folder)
    assert (record.program, record.sha256, record.opens) == ("/usr/bin/grep", "ab" * 32, ("/home/ann/.ssh/id_*",))
    assert record.reason == made["reason"] == "my search"
    assert record.expires_ns - record.added_ns == 30 * 86_400 * 10**9
    assert [each["sha256"] for each in machine.json("list")["allowed"]] == ["ab" * 32]
    assert "my search" in machine.run("list")[1]
    machine.json("forbid", "abab")
    assert load_allowed(machine.layout.allowed_folder) == ()
    assert broker.reloads == 2


@pytest.mark.parametrize(
    "words",
    [
        ("allow", "1"), ("allow", "2", "--reason", "x"), ("allow", "1", "--reason", "x", "--expires", "soon"),
        ("forbid", "ff"), ("forbid", ""), ("learn", "--for", "8d"), ("learn", "--for", "1h30m"),
    ],
)  # fmt: skip
def test_misuse(machine, words):
    save_lessons(machine.layout.learnt_file, Lessons(0, (PROPOSAL,)))

    assert machine.run(*words)[0] == 2
    assert load_allowed(machine.layout.allowed_folder) == ()


def test_only_root_may(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    for words in (("list",), ("learn",), ("proposals",), ("allow", "1"), ("forbid", "a")):
        assert machine.run(*words)[0] == 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1h", 3600), ("7d", 604_800), ("0", 0)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1.5h", "1w", "1h ", "9999999999", "٣h"])
def test_what_is_no_time(text):
    with pytest.raises(MisuseError):
        seconds_of(text)
