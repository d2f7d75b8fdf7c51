"""Which process of a real agent is the agent: one turn of each CLI from npm, on the real kernel side.

Each turn asks the model, runs a tool that connects to the model itself, and asks again. Needs root, BPF, and the
packages (tests/demo/agent.py says where they are kept).
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]
_MODEL = ("/v1/messages", "/v1/responses", "enerateContent")


@pytest.fixture(scope="module")
def turns():
    """The turns that were run so far, by agent; each is run once."""
    folder = Path(tempfile.mkdtemp(prefix="roles-", dir="/tmp"))
    folder.chmod(0o755)
    done = {}

    def turn(agent):
        if agent not in done:
            command = ["unshare", "--net", sys.executable, "-m", "tests.e2e.roles.run", agent, str(folder / agent)]
            done[agent] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return done[agent]

    yield turn
    shutil.rmtree(folder)


AGENTS = pytest.mark.parametrize("agent", ["claude", "codex", "codex-node24", "gemini"])


def callers_of(turn, *paths):
    return [who for path, who in turn["callers"] if any(each in path for each in paths)]


@AGENTS
def test_who_asks_the_model_is_the_main_process_of_its_agent(turns, agent):
    turn = turns(agent)

    assert turn["problems"] == []
    assert "MOCK-OK" in turn["output"]
    asked = callers_of(turn, *_MODEL)
    assert len(asked) >= 2
    assert {(who.get("agent"), who.get("main")) for who in asked} == {(agent.partition("-")[0], True)}
    assert [who["taints"] for who in asked] == [[]] * len(asked)


@AGENTS
def test_a_tool_of_the_agent_is_not_the_agent(turns, agent):
    (tool,) = callers_of(turns(agent), "/whoami")

    assert tool["agent"] == agent.partition("-")[0]
    assert not tool["main"]


def roles_of(turn):
    """Which images of enrolled files were the main process, by argv[0] and the first argument."""
    return {(Path(each["argv"][0]).name, each["argv"][1].partition("=")[0]): each.get("main") for each in turn["execs"]}


def test_claude_under_another_name_is_not_the_agent(turns):
    roles = roles_of(turns("claude"))

    assert roles.pop(("claude", "-p"))
    assert {name for name, _ in roles} == {"rg"}
    assert not any(roles.values())


@pytest.mark.parametrize("agent", ["codex", "codex-node24"])
def test_codex_as_its_own_sandbox_is_not_the_agent(turns, agent):
    roles = roles_of(turns(agent))

    assert roles.pop(("codex", "exec"))
    assert set(roles) == {("exe", "--codex-run-as-process-setup"), ("codex-linux-sandbox", "--sandbox-policy-cwd")}
    assert not any(roles.values())


def test_codex_is_a_child_of_its_launcher_on_node_20_and_replaces_it_on_node_24(turns):
    assert [who["pid"] for who in callers_of(turns("codex"), *_MODEL)] != [turns("codex")["pid"]] * 2
    assert [who["pid"] for who in callers_of(turns("codex-node24"), *_MODEL)] == [turns("codex-node24")["pid"]] * 2


def test_gemini_and_the_child_that_it_starts_in_its_place_are_both_the_agent_and_the_child_asks(turns):
    turn = turns("gemini")
    outer, inner = turn["execs"]

    assert outer["pid"] == turn["pid"]
    assert (outer["main"], inner["main"]) == (True, True)
    assert outer["taints"] == inner["taints"] == []
    assert {who["pid"] for who in callers_of(turn, *_MODEL)} == {inner["pid"]}
