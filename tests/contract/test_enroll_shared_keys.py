"""A key that two agents read is not taken from one for the other: it moves for both, or it stays, and that is said."""

import json
import shutil

import pytest

from agent_broker.cli.main import main
from agent_broker.errors import UnavailableError
from agent_broker.identity.registry import load_registry
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import UID
from tests.fakes.scan_world import ScanWorld

CLAUDE_KEY = "sk-ant-api03-" + "Sh9" * 30 + "-_AA"
OPENAI_KEY = "sk-proj-" + "Op4" * 40
GEMINI_KEY = "AIza" + "Ge7" * 12
KEYS = (CLAUDE_KEY, OPENAI_KEY, GEMINI_KEY)
BASHRC = f"alias ll='ls -l'\nexport ANTHROPIC_API_KEY={CLAUDE_KEY}  # work\nexport EDITOR=vi\n"
LOGIN = ".local/share/opencode/auth.json"


class Shared:
    """A home with agents in it, and the commands."""

    def __init__(self, world, broker):
        self.world = world
        self.broker = broker
        for folder in (".local", ".local/bin", ".config", ".config/opencode", ".local/share", ".local/share/opencode"):
            world.make_folder(world.home / folder)

    def install(self, *names):
        for name in names:
            shutil.copy("/bin/true", self.world.home / ".local/bin" / name)

    def run(self, command, *words):
        whose = ("--user", str(UID), "--home", str(self.world.home), "--yes")
        return main(["--root", str(self.world.installation), command, *words, *whose])

    def enroll(self, *words):
        return self.run("enroll", *words, "--profiles")

    def holders(self, key):
        """The credentials of the vault that are this key."""
        return sorted(name for name, (_, content) in self.broker.vault.items() if content == key.encode())

    def files(self):
        """What is in the home, but for the programs, whose time of access is nobody's."""
        return {path: facts for path, facts in self.world.snapshot().items() if not path.startswith(".local/bin/")}

    def left(self):
        return {key for key in KEYS for facts in self.world.snapshot().values() if key.encode() in facts.data}


@pytest.fixture
def shared(monkeypatch):
    world, broker = ScanWorld(), FakeBroker()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("agent_broker.cli.profile_keys.PREFIX", "phantom-of-")  # the broker in memory makes such ones
    with ServedBroker(broker, world.installation) as served:
        made = Shared(world, broker)
        made.registry = served.layout.registry_folder
        yield made
    world.close()


def test_another_agent_s_own_line_stays_as_long_as_it_is_installed(shared, capsys):
    shared.install("opencode")
    shared.world.file(LOGIN, json.dumps({"anthropic": {"type": "api", "key": CLAUDE_KEY}}))
    shared.world.file(".gemini/.env", f"GEMINI_API_KEY={GEMINI_KEY}\n")
    before = shared.files()
    gemini = shared.world.home / ".local/bin/gemini"
    gemini.write_text("#!/usr/bin/env node\n")

    assert shared.enroll("opencode") == 0
    said = capsys.readouterr().out
    assert ".gemini/.env:1: GEMINI_API_KEY stays" in said
    assert "gemini reads it there; enroll gemini moves it" in said
    assert shared.files()[".gemini/.env"] == before[".gemini/.env"]
    assert shared.run("unenroll", "opencode") == 0

    gemini.unlink()
    assert shared.enroll("opencode") == 0
    assert shared.left() == set()
    assert shared.run("unenroll", "opencode") == 0
    assert {path: shared.files()[path] for path in before} == before


def test_the_phantom_of_an_enrolled_agent_is_no_key(shared):
    """Aider's phantom lies in ~/.env, where whoever moves profiles looks."""
    shared.install("opencode")
    phantom = "phantom-of-aider-61234-" + "x" * 43
    shared.world.file(".env", f"OPENAI_API_KEY={phantom}\n")
    shared.world.file(LOGIN, json.dumps({"anthropic": {"type": "api", "key": CLAUDE_KEY}}))
    before = shared.files()
    assert shared.enroll("opencode") == 0
    assert shared.files()[".env"] == before[".env"]
    assert shared.holders(phantom) == []


def test_a_line_that_an_agent_reads_which_is_not_enrolled_stays(shared, capsys):
    shared.install("opencode", "claude")
    shared.world.file(".bashrc", BASHRC)
    before = shared.files()
    assert shared.enroll("opencode") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"ANTHROPIC_API_KEY in {shared.world.home}/.bashrc:2 is claude's, too" in said
    assert "enroll the agents in one command, with --profiles" in said
    assert shared.files() == before

    shared.world.file(LOGIN, json.dumps({"openai": {"type": "api", "key": OPENAI_KEY}}))
    assert shared.enroll("opencode") == 0
    said = capsys.readouterr().out
    assert "ANTHROPIC_API_KEY stays, for every process to read: claude reads it there" in said
    assert "enroll claude in the same command, and it moves for each" in said
    assert shared.files()[".bashrc"] == before[".bashrc"]

    assert shared.enroll("claude") == 0  # OpenCode is enrolled by now, and needs no variable
    assert shared.left() == set()


@pytest.mark.parametrize("order", [("claude", "opencode"), ("opencode", "claude")])
def test_one_command_moves_it_for_both(shared, order, capsys):
    shared.install("opencode", "claude")
    shared.world.file(".bashrc", BASHRC, 0o640)
    before = shared.files()
    assert shared.enroll("claude", "opencode") == 0
    said = capsys.readouterr().out
    assert "ANTHROPIC_API_KEY is opencode's, too" in said
    assert "ANTHROPIC_API_KEY is claude's, too" in said
    assert shared.left() == set()
    assert shared.holders(CLAUDE_KEY) == [
        f"claude/{UID}/exported-api-key",
        f"opencode/{UID}/exported-ANTHROPIC_API_KEY",
    ]
    auth = json.loads((shared.world.home / LOGIN).read_text())
    assert auth["anthropic"]["key"].startswith("phantom-of-opencode-")
    for agent in order:
        assert shared.run("unenroll", agent) == 0
    after = shared.files()
    assert {path: after[path] for path in before} == before
    assert LOGIN not in after
    assert shared.broker.vault == {}


def test_lines_of_two_agents_in_one_profile_move_in_one_command(shared):
    shared.install("opencode", "claude")
    shared.world.file(".bashrc", f"{BASHRC}export OPENAI_API_KEY={OPENAI_KEY}\n")
    before = shared.files()
    assert shared.enroll("--all") == 0
    assert shared.left() == set()
    assert shared.holders(OPENAI_KEY) == [f"opencode/{UID}/exported-OPENAI_API_KEY"]
    for agent in ("opencode", "claude"):
        assert shared.run("unenroll", agent) == 0
    assert {path: shared.files()[path] for path in before} == before


def test_if_the_first_of_them_fails_its_line_is_not_taken_for_the_second(shared, capsys):
    shared.install("opencode", "claude")
    shared.world.file(".bashrc", BASHRC)
    before = shared.files()
    put = shared.broker.make_phantom

    async def fail_for_claude(agent, *rest):
        if agent == "claude":
            raise UnavailableError("the disk is full", next_step="make room")
        return await put(agent, *rest)

    shared.broker.make_phantom = fail_for_claude
    assert shared.enroll("claude", "opencode") != 0
    assert shared.files() == before
    assert load_registry(shared.registry) == ()
