"""The release rule for a tool: each of its parts alone says no."""

import pytest
from msgspec.structs import replace

from agent_broker.errors import RefusedError
from agent_broker.grant.tool import require_tool, subject_of
from agent_broker.identity.evidence import Evidence, Freshness, ToolUse
from agent_broker.ids import Epoch, ExecId, ProcId
from tests.fakes.lineage_records import a_lineage, a_principal

GIT = ToolUse("git", 1000, 7, 8, "a" * 64)
GOOD = Evidence(Freshness(Epoch("e"), ProcId(7), ExecId(8), 0), 1000, a_lineage(7, 1), None, (), "observe+", tool=GIT)


@pytest.mark.parametrize("agent", [None, a_principal()], ids=["a person", "an agent"])
def test_the_tool_as_it_was_enrolled_passes(agent):
    require_tool(replace(GOOD, principal=agent), "git", 1000)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"uid": 1001}, "owner"),
        ({"tool": None}, "tool"),
        ({"tool": replace(GIT, tool="docker")}, "tool"),
        ({"tool": replace(GIT, owner_uid=1001)}, "tool"),
        ({"tool": replace(GIT, problem="a shell stands between")}, "tool"),
        ({"principal": a_principal(owner_uid=1001)}, "principal"),
        ({"taints": ("LD_PRELOAD",)}, "taint"),
    ],
)
def test_anything_else_is_refused_by_its_rule(changes, rule):
    with pytest.raises(RefusedError) as refused:
        require_tool(replace(GOOD, **changes), "git", 1000)
    assert refused.value.rule == rule


@pytest.mark.parametrize(
    ("tool", "says"),
    [("pnpm", "as it was enrolled, with --ignore-scripts and --ignore-pnpmfile"), ("docker", "as it was enrolled")],
)
def test_the_refusal_says_what_a_tool_must_have_been_told(tool, says):
    with pytest.raises(RefusedError) as refused:
        require_tool(GOOD, tool, 1000)
    assert refused.value.message == f"the caller was not started by {tool} {says}"


def test_for_whom_it_works():
    assert subject_of(replace(GOOD, principal=a_principal())) == ("claude", "")
    assert subject_of(GOOD) == ("", "terminal")
    assert subject_of(replace(GOOD, tool=replace(GIT, no_terminal="a script"))) == ("", "user")
