"""Several agents in one go, and keys of profiles on the command line: one question each, one transaction each."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from agent_broker.cli import enrolling
from agent_broker.cli.main import main
from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.errors import UnavailableError
from agent_broker.identity.registry import load_registry
from agent_broker.ids import AgentName
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID
from tests.fakes.scan_world import PROGRAM, ScanWorld
from tests.fakes.terminal import at_terminal

SECOND = AgentName("second")
KEY = "sk-ant-api03-" + "Se7" * 30 + "-_AA"


@dataclasses.dataclass(frozen=True)
class Second(ClaudeRecipe):
    """An agent of another name whose files lie in a home below the home."""

    agent: AgentName = SECOND

    def binary_candidates(self, owner, search_path):  # noqa: ARG002 - the protocol's
        return [Path(owner.home).parent / "bin/second"]

    def survey(self, files, owner):
        survey = super().survey(files, owner)
        own = [file for file in survey.files if file.path == ".claude.json"]
        kept = [secret for secret in survey.secrets if secret.file == ".claude.json"]
        return dataclasses.replace(
            survey, files=tuple(own), secrets=tuple(kept), active="primary-api-key", decoys=(), rows=survey.rows[1:2]
        )


@pytest.fixture
def home():
    made = ScanWorld().full()
    (made.root / "bin/second").write_bytes((made.root / "bin/claude").read_bytes())
    (made.root / "bin/second").chmod(0o755)
    yield made
    made.close()


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def served(broker, home, monkeypatch):
    monkeypatch.setenv("AGENT_BROKER_ROOT", str(home.installation))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", f"{home.root}/bin")
    monkeypatch.delenv("SUDO_USER", raising=False)
    with ServedBroker(broker, home.installation) as served:
        yield served


@pytest.fixture
def two(monkeypatch):
    """Exactly two agents: their files do not overlap."""

    @dataclasses.dataclass(frozen=True)
    class First(ClaudeRecipe):
        def survey(self, files, owner):
            survey = super().survey(files, owner)
            kept = tuple(file for file in survey.files if "claude.json" not in file.path)
            secrets = tuple(secret for secret in survey.secrets if secret.file != ".claude.json")
            return dataclasses.replace(survey, files=kept, secrets=secrets)

    monkeypatch.setattr(enrolling, "RECIPES", {"claude": First, "second": Second})


def whose(home):
    return ["--user", str(UID), "--home", str(home.home)]


def enrolled(served):
    return [each.agent for each in load_registry(served.layout.registry_folder)]


def test_two_agents_one_plan_screen_a_transaction_each(served, two, home, capsys):
    before = home.snapshot()
    assert main(["enroll", "claude", "second", *whose(home), "--yes"]) == 0
    said = capsys.readouterr().out
    assert said.index("Plan: enroll claude") < said.index("Plan: enroll second") < said.index("claude of 61234 is now")
    assert "second of 61234 is now enrolled" in said
    assert enrolled(served) == ["claude", "second"]
    assert len(list(served.layout.enroll_folder.glob("*.json"))) == 2
    assert main(["unenroll", "--all", *whose(home), "--yes"]) == 0
    assert enrolled(served) == []
    assert home.snapshot() == before


def test_what_fails_leaves_the_others_right_and_is_told(served, two, broker, home, capsys):
    original = broker.make_phantom

    async def fail_for_one(agent, *rest):
        if agent == "claude":
            raise UnavailableError("the disk is full", next_step="make room")
        return await original(agent, *rest)

    broker.make_phantom = fail_for_one
    before = home.snapshot()
    assert main(["enroll", "claude", "second", *whose(home), "--yes"]) == UnavailableError.exit_code
    said = capsys.readouterr().out
    assert "failed: the disk is full" in said
    assert "make room" in said
    assert enrolled(served) == ["second"]
    changed = {name for name, facts in home.snapshot().items() if facts != before.get(name)}
    assert changed == {".claude.json"}


def test_json_of_several(served, two, home, capsys):
    assert main(["enroll", "claude", "second", *whose(home), "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(each["agent"], each["report"], each["error"]) for each in answer["enrolments"]] == [
        ("claude", None, None),
        ("second", None, None),
    ]
    assert main(["enroll", "--all", *whose(home), "--yes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    done = {each["agent"]: each["report"]["summary"] for each in answer["enrolments"]}
    assert done == {"claude": "enrolled", "second": "enrolled"}
    assert main(["unenroll", "claude", "second", *whose(home), "--yes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["report"]["summary"] for each in answer["unenrolments"]] == ["not enrolled"] * 2


def test_all_leaves_out_what_can_t_be_enrolled_and_says_why(served, home, capsys):
    assert main(["enroll", "--all", *whose(home), "--yes"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out" in said
    assert "codex:" in said
    assert enrolled(served) == ["claude"]
    assert main(["enroll", "--all", *whose(home), "--yes"]) == 2  # nothing is left that could be
    assert "is enrolled already" in " ".join(capsys.readouterr().out.split())


def test_one_that_is_named_and_can_t_be_stops_all_before_anything_is_done(served, two, home, capsys):
    (home.root / "bin/second").unlink()
    before = home.snapshot()
    assert main(["enroll", "claude", "second", *whose(home), "--yes"]) == 2
    assert "executable was not found" in capsys.readouterr().err
    assert (enrolled(served), home.snapshot()) == ([], before)


@pytest.mark.parametrize(
    "words",
    [
        ["enroll"],
        ["enroll", "claude", "--all"],
        ["enroll", "claude", "codex", "--binary", "/bin/true"],
        ["enroll", "--all", "--allow-env", "LD_PRELOAD=x"],
        ["unenroll"],
        ["unenroll", "--all"],
        ["unenroll", "claude", "nobody"],
    ],
)
def test_misuse(served, home, words):
    assert main([*words, *whose(home), "--yes"]) == 2


@pytest.mark.parametrize(
    ("options", "moved"),
    [(["--yes"], False), (["--yes", "--profiles"], True), (["--yes", "--no-profiles"], False)],
)
def test_profiles_move_only_if_they_are_named(served, home, capsys, options, moved):
    text = f"export ANTHROPIC_API_KEY={KEY}\n"
    home.file(".bashrc", text)
    before = home.snapshot()
    assert main(["enroll", "claude", *whose(home), *options]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "~/.bashrc" in said
    assert ("stays," in said) == (not moved)
    assert (KEY.encode() in home.snapshot()[".bashrc"].data) == (not moved)
    assert KEY not in said
    assert main(["unenroll", "claude", *whose(home), "--yes"]) == 0
    assert home.snapshot() == before


@pytest.mark.parametrize(
    ("answers", "code", "moved"),
    [((b"y\n", b"y\n"), 0, True), ((b"n\n", b"y\n"), 0, False), ((b"y\n", b"n\n"), 1, False)],
)
def test_a_person_is_asked_for_profiles_apart_from_the_enrolment(served, home, answers, code, moved):
    bashrc = home.file(".bashrc", f"export ANTHROPIC_API_KEY={KEY}\n")
    words = ("enroll", "claude", *whose(home))
    exit_code, said = at_terminal(
        (sys.executable, "-c", PROGRAM, *words), lambda question: answers[min(question, len(answers)) - 1]
    )
    assert exit_code == code, said
    assert b"Also move ANTHROPIC_API_KEY in" in said
    assert (KEY in bashrc.read_text()) == (not moved)
    assert enrolled(served) == (["claude"] if code == 0 else [])
