"""What ``agent-broker run claude`` takes from the settings of a Claude Code that is enrolled at a cloud."""

import json
from pathlib import Path

import pytest

from agent_broker.cli.run import agent_environment
from agent_broker.cli.run_clouds import cloud_wiring
from agent_broker.config.layout import Layout

OWN = "agent-broker-phantom-abcdefghijklmnopqrstuvwxyz234567"
OTHER = "agent-broker-phantom-abcdefghijklmnopqrstuvwxyz765432"
BEDROCK = {
    "CLAUDE_CODE_USE_BEDROCK": "1",
    "ANTHROPIC_BEDROCK_BASE_URL": "http://127.0.0.1:8787",
    "AWS_BEARER_TOKEN_BEDROCK": OWN,
    "AWS_REGION": "eu-west-1",
}
VERTEX = {
    "CLAUDE_CODE_USE_VERTEX": "true",
    "ANTHROPIC_VERTEX_BASE_URL": "http://127.0.0.1:8787/v1",
    "ANTHROPIC_AUTH_TOKEN": OWN,
    "CLAUDE_CODE_SKIP_VERTEX_AUTH": "1",
    "ANTHROPIC_VERTEX_PROJECT_ID": "a-project",
    "CLOUD_ML_REGION": "europe-west1",
    "VERTEX_REGION_CLAUDE_HAIKU_4_5": "global",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".claude").mkdir()
    return tmp_path


def settings(home: Path, env: object) -> None:
    (home / ".claude/settings.json").write_text(json.dumps({"env": env}))


@pytest.mark.parametrize("wiring", [BEDROCK, VERTEX])
def test_the_wiring_is_taken_whole_and_the_phantom_is_the_one_that_was_asked_for(home, wiring):
    settings(home, {**wiring, "EDITOR": "vim", "NODE_OPTIONS": "--require /evil.js"})

    told = cloud_wiring(home, OTHER)

    token = next(name for name, value in wiring.items() if value == OWN)
    switch = next(name for name in wiring if "_USE_" in name)
    assert told == {**wiring, token: OTHER, switch: "1"}


@pytest.mark.parametrize(
    "env",
    [
        {},
        {**BEDROCK, "CLAUDE_CODE_USE_BEDROCK": "0"},
        {**BEDROCK, "AWS_BEARER_TOKEN_BEDROCK": "ABSK-a-key-that-was-not-moved"},
        {"ANTHROPIC_AUTH_TOKEN": OWN, "ANTHROPIC_BASE_URL": "http://127.0.0.1:8787"},
        "no object",
        {"CLAUDE_CODE_USE_BEDROCK": True, "AWS_BEARER_TOKEN_BEDROCK": OWN},
    ],
)
def test_without_an_enrolment_at_a_cloud_there_is_none(home, env):
    settings(home, env)

    assert cloud_wiring(home, OTHER) == {}


@pytest.mark.parametrize("text", ["", "{", '{"env": 1}', "[]", "\xff"])
def test_a_file_that_is_no_settings_has_none(home, text):
    (home / ".claude/settings.json").write_text(text, encoding="latin-1")

    assert cloud_wiring(home, OTHER) == {}


def test_what_the_shell_says_of_a_cloud_is_left_out_and_no_settings_lead_elsewhere():
    shell = {"ANTHROPIC_BEDROCK_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "sk-ant", "KEPT": "yes"}

    told, left_out = agent_environment(shell, Layout(), OWN, cloud=BEDROCK)

    assert told == {**BEDROCK, "KEPT": "yes", "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": "1"}
    assert left_out == ("ANTHROPIC_API_KEY", "ANTHROPIC_BEDROCK_BASE_URL")
