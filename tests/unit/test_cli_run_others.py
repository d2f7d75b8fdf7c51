"""``agent-broker run codex`` and ``run gemini``: the environment that they are started with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.cli import run_others
from agent_broker.cli.run_others import Chosen, options, other_environment
from agent_broker.errors import MisuseError

PHANTOM = "agent-broker-phantom-abcdefghijklmnopqrstuvwxyz234567"
CHOSEN = "agent-broker-phantom-zyxwvutsrqponmlkjihgfedcba234567"
ADDRESS = "http://127.0.0.1:917"
BY_KEY = f"GEMINI_API_KEY={PHANTOM}\nGOOGLE_GEMINI_BASE_URL={ADDRESS}\n"
BY_LOGIN = f"GOOGLE_CLOUD_ACCESS_TOKEN={PHANTOM}\nGOOGLE_GENAI_USE_GCA=true\nCODE_ASSIST_ENDPOINT={ADDRESS}\n"
SHOW = "#!/bin/sh\nenv\n"


def enrolled(home, text):
    (home / ".gemini").mkdir()
    (home / ".gemini/.env").write_text(text)
    return home


def test_codex_gets_a_cleaned_environment(tmp_path):
    environment = {"CODEX_API_KEY": "sk-real", "OPENAI_API_KEY": "sk-real", "LD_PRELOAD": "x.so", "PATH": "/bin"}
    kept, left_out = other_environment("codex", environment, tmp_path)
    assert kept == {"PATH": "/bin"}
    assert left_out == ("CODEX_API_KEY", "LD_PRELOAD", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("text", "wiring"),
    [
        (
            f"OTHER=1\nGEMINI_API_KEY={PHANTOM}\nGOOGLE_GEMINI_BASE_URL=http://127.0.0.1:917\n",
            {"GEMINI_API_KEY": PHANTOM, "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:917"},
        ),
        (
            f"GOOGLE_CLOUD_ACCESS_TOKEN={PHANTOM}\nGOOGLE_GENAI_USE_GCA=true\nCODE_ASSIST_ENDPOINT=http://127.0.0.1:917\n",
            {
                "GOOGLE_CLOUD_ACCESS_TOKEN": PHANTOM,
                "GOOGLE_GENAI_USE_GCA": "true",
                "CODE_ASSIST_ENDPOINT": "http://127.0.0.1:917",
            },
        ),
    ],
)
def test_gemini_gets_its_wiring_whatever_a_project_says(tmp_path, text, wiring):
    environment = {"GEMINI_API_KEY": "real", "GOOGLE_GEMINI_BASE_URL": "http://evil.example", "KEPT": "1"}
    kept, left_out = other_environment("gemini", environment, enrolled(tmp_path, text))
    assert kept == {"KEPT": "1", **wiring}
    assert left_out == ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL")


@pytest.mark.parametrize("text", ["", "GEMINI_API_KEY=real-key\n", "GOOGLE_GEMINI_BASE_URL=http://x\n"])
def test_gemini_without_a_phantom_is_not_started(tmp_path, text):
    with pytest.raises(MisuseError, match="not enrolled") as refused:
        other_environment("gemini", {}, enrolled(tmp_path, text))
    assert "real-key" not in refused.value.explain()


def test_gemini_of_a_home_without_anything_is_not_started(tmp_path):
    with pytest.raises(MisuseError, match="not enrolled"):
        other_environment("gemini", {}, tmp_path)


def test_an_account_of_codex_is_named_by_a_variable_and_never_by_an_argument(tmp_path):
    kept, left_out = other_environment("codex", {run_others.VARIABLE: "x"}, tmp_path, chosen=Chosen(CHOSEN, True))
    assert kept == {run_others.VARIABLE: CHOSEN}
    assert left_out == (run_others.VARIABLE,)
    assert options("codex") == ("-c", 'model_providers.agent-broker.env_key="AGENT_BROKER_PHANTOM"')
    assert options("gemini") == ()


@pytest.mark.parametrize("text", [BY_KEY, BY_LOGIN], ids=["key", "login"])
@pytest.mark.parametrize("is_login", [False, True])
def test_an_account_of_gemini_is_the_only_one_that_it_can_find(tmp_path, monkeypatch, text, is_login):
    monkeypatch.setattr(run_others, "OPERATORS", tmp_path / "none")
    kept, _ = other_environment("gemini", {}, enrolled(tmp_path, text), chosen=Chosen(CHOSEN, is_login))
    assert {kept["GEMINI_API_KEY"], kept["GOOGLE_CLOUD_ACCESS_TOKEN"]} == {CHOSEN}
    assert {kept["GOOGLE_GEMINI_BASE_URL"], kept["CODE_ASSIST_ENDPOINT"]} == {ADDRESS}
    assert PHANTOM not in kept.values()
    assert ("GOOGLE_GENAI_USE_GCA" in kept) == is_login
    settings = kept.get("GEMINI_CLI_SYSTEM_SETTINGS_PATH")
    if is_login == (text is BY_LOGIN):
        assert settings is None
        return
    way = "oauth-personal" if is_login else "gemini-api-key"
    assert json.loads(Path(settings).read_text()) == {"security": {"auth": {"selectedType": way}}}
    assert kept["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"] == str(tmp_path / "none/system-defaults.json")


@pytest.mark.parametrize("how", ["file", "dangling link", "variable"])
def test_the_operators_settings_of_gemini_are_not_replaced(tmp_path, monkeypatch, how):
    monkeypatch.setattr(run_others, "OPERATORS", tmp_path)
    if how == "file":
        (tmp_path / "settings.json").touch()
    elif how == "dangling link":
        (tmp_path / "settings.json").symlink_to("nowhere")
    environment = {"GEMINI_CLI_SYSTEM_SETTINGS_PATH": "/etc/other.json"} if how == "variable" else {}
    home = enrolled(tmp_path, BY_KEY)
    with pytest.raises(MisuseError, match="decides what Gemini uses"):
        other_environment("gemini", environment, home, chosen=Chosen(CHOSEN, True))
    assert other_environment("gemini", environment, home, chosen=Chosen(CHOSEN, False))[0]["GEMINI_API_KEY"] == CHOSEN


def test_the_command_becomes_the_agent(tmp_path):
    enrolled(tmp_path, f"GEMINI_API_KEY={PHANTOM}\nGOOGLE_GEMINI_BASE_URL=http://127.0.0.1:917\n")
    program = tmp_path / "gemini"
    program.write_text(SHOW)
    program.chmod(0o755)
    program_of_ours = "import sys; from agent_broker.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program_of_ours, "--root", str(tmp_path), "run", str(program)]
    environment = {**os.environ, "HOME": str(tmp_path), "GEMINI_API_KEY": "real-key"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"GEMINI_API_KEY={PHANTOM}" in done.stdout.splitlines()
    assert "real-key" not in done.stdout + done.stderr
