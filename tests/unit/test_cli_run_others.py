"""``agent-broker run codex`` and ``run gemini``: the environment that they are started with."""

import os
import subprocess
import sys

import pytest

from agent_broker.cli.run_others import other_environment
from agent_broker.errors import MisuseError

PHANTOM = "agent-broker-phantom-abcdefghijklmnopqrstuvwxyz234567"
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
