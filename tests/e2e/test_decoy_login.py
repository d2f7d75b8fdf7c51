"""The real Claude Code takes a decoy for its login, and takes it last: an API key of the user's wins."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.agent import find_agent
from tests.fakes.plant_world import GID, UID, PlantWorld

pytestmark = [pytest.mark.e2e]

REPOSITORY = Path(__file__).parents[2]
TURN = """
set -eu
ip link set lo up
"$1" -m tests.fakes.mock_provider --port 18080 --log "$2" > "$2.out" &
provider=$!
trap 'kill $provider' EXIT
until grep -q http "$2.out"; do sleep 0.1; done
shift 2
"$@"
"""


@pytest.fixture
def world():
    world = PlantWorld()
    world.file(".claude/settings.json", '{"model": "opus"}\n')
    yield world
    world.close()


def turn(world, **environment):
    """Let Claude take one turn, in a network of its own; return what it authenticated its requests with."""
    claude = find_agent("claude-code", world.root).program
    log = world.root / "seen.jsonl"
    variables = {
        "HOME": str(world.home),
        "PATH": "/usr/bin:/bin",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:18080",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        **environment,
    }
    user = ("setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", "env", "-i", "-C", str(world.home))
    asked = (*user, *(f"{name}={value}" for name, value in variables.items()), str(claude), "-p", "hello")
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", TURN, "sh", sys.executable, str(log), *asked],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "MOCK-OK" in done.stdout, done.stderr[-500:]
    seen = [json.loads(line) for line in log.read_text().splitlines()]
    return {(name, value) for each in seen if "/messages" in each["target"] for name, value in each["headers"].items()
            if name in ("authorization", "x-api-key")}  # fmt: skip


def test_claude_sends_the_decoy_if_it_has_nothing_else(world):
    world.plant("claude-oauth")
    ((header, value),) = turn(world)
    assert header == "authorization"
    assert world.knows(value.removeprefix("Bearer "))


def test_an_api_key_of_the_users_wins_over_the_decoy(world):
    world.plant("claude-oauth")
    assert turn(world, ANTHROPIC_API_KEY="sk-ant-api03-mine") == {("x-api-key", "sk-ant-api03-mine")}
