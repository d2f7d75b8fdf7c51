"""``agent-broker scan`` of a home in which the real CLIs lie and have run: before, during and after an enrolment."""

import json
import os
import subprocess

import pytest

from agent_broker.cli.main import main
from tests.demo.agent import MORE, REAL, VERSION, find_agent, more_agents
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.enroll_world import OAUTH, SECRETS, UID
from tests.fakes.opened import Opened
from tests.fakes.scan_world import ScanWorld, places

CODEX_KEY = "sk-proj-" + "Cx8" * 30
GEMINI_KEY = "AIza" + "Gm4" * 12
EXPORTED = "sk-ant-api03-" + "Zq6" * 30 + "-_AA"
KEYS = (CODEX_KEY, GEMINI_KEY, EXPORTED, *(secret.decode() for secret in SECRETS))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents")
    modules = more_agents() / "node_modules"
    return {
        "claude": find_agent(REAL, folder).program,
        "codex": modules / ".bin/codex",
        "gemini": modules / ".bin/gemini",
        "node": modules / "node/bin/node",
    }


@pytest.fixture
def world(monkeypatch, programs):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("SUDO_USER", raising=False)
    made = ScanWorld()
    folder = made.make_folder(made.make_folder(made.home / ".local") / "bin")
    for name in ("claude", "codex", "gemini"):
        (folder / name).symlink_to(os.path.realpath(programs[name]))
    made.make(made.credentials, json.dumps(OAUTH))
    made.file(".codex/auth.json", json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": CODEX_KEY}))
    made.file(".gemini/.env", f"GEMINI_API_KEY={GEMINI_KEY}\n")
    made.file(".bashrc", f"# mine\nexport ANTHROPIC_API_KEY={EXPORTED}\nalias ll='ls -l'\n", 0o644)
    run_them(made, programs)
    yield made
    made.close()


def run_them(world, programs):
    """Let each leave its own files in the home; there is no network, so none gets an answer."""
    environment = {
        "HOME": str(world.home),
        "PATH": f"{programs['node'].parent}:/usr/bin:/bin",
        "TERM": "dumb",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    for name, words in (("claude", ["--version"]), ("codex", ["login", "status"]), ("gemini", ["--version"])):
        subprocess.run(
            ["unshare", "--net", "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--",
             str(world.home / ".local/bin" / name), *words],
            env=environment, cwd=world.home, stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip


def scanned(world, capsys):
    assert world.scan("--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert world.scan() == 0
    table = capsys.readouterr().out
    assert [key for key in KEYS for text in (table, json.dumps(report)) if key in text or key[6:30] in text] == []
    return report


def states(report):
    return {place: row["state"] for place, row in places(report).items()}


def test_the_real_clis_before_during_and_after_an_enrolment(world, programs, capsys, monkeypatch):
    monkeypatch.setattr("agent_broker.cli.scan.PREFIX", "phantom-of-")  # the broker in memory makes such ones
    before = scanned(world, capsys)
    agents = {row["agent"]: row for row in before["homes"][0]["agents"] if row["path"].startswith(str(world.home))}
    assert {name: (row["version"], row["layout"]) for name, row in agents.items()} == {
        "claude": (VERSION, "npm"),
        "codex": (MORE["@openai/codex"], "npm"),
        "gemini": (MORE["@google/gemini-cli"], "npm"),
    }
    plain = {
        (".claude/.credentials.json", ""): "plain",
        (".codex/auth.json", ""): "plain",
        (".gemini/.env", ""): "plain",
        (".bashrc", "ANTHROPIC_API_KEY"): "plain",
    }
    assert states(before) == plain
    root = ["--root", str(world.installation)]
    whose = ["--user", str(UID), "--home", str(world.home)]
    with ServedBroker(FakeBroker(), world.installation):
        binary = str(world.home / ".local/bin/claude")
        assert main([*root, "enroll", "claude", *whose, "--binary", binary, "--yes", "--profiles"]) == 0
        capsys.readouterr()
        with Opened(world.home) as opened:
            during = scanned(world, capsys)
            assert not {".credentials.json", "auth.json", ".env"} & opened.names()
        assert states(during) == plain | {
            (".claude/.credentials.json", ""): "decoy",
            (".claude/.credentials.json", "claudeAiOauth"): "vault",
            (".claude/settings.json", "env.ANTHROPIC_AUTH_TOKEN"): "phantom",
            (".bashrc", "ANTHROPIC_API_KEY"): "vault",
        }
        enrolled = {row["agent"]: row["enrolled"] for row in during["homes"][0]["agents"]}
        assert enrolled["claude"] == "yes"
        assert enrolled["codex"] == "no"
        assert main([*root, "unenroll", "claude", *whose, "--yes"]) == 0
        capsys.readouterr()
        assert states(scanned(world, capsys)) == plain
