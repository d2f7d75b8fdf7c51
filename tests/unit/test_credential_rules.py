"""Who may open a place of the shipped catalogue by who it is: an enrolled tool itself, and nothing near it."""

import msgspec
import pytest

from agent_broker.identity.evidence import ToolUse
from agent_broker.monitor.catalogue import Place, shipped_catalogue
from agent_broker.monitor.credential_rules import is_agent_of
from tests.unit.test_detection import evidence

USER = 1000


def place_of(pattern):
    (entry,) = (each for each in shipped_catalogue().path if each.pattern == pattern)
    return Place(entry, pattern.replace("~", "/home/ann"), USER)


def by_tool(tool, *, proc_id=7, exec_id=7, owner=USER, taints=(), uid=USER):
    use = ToolUse(tool, owner, proc_id, exec_id, "a" * 64, "it does not ask through the shim")
    return msgspec.structs.replace(evidence(uid=uid, taints=taints), tool=use)


@pytest.mark.parametrize(
    ("pattern", "verdict", "may"),
    [
        ("~/.netrc", by_tool("keyring"), True),
        ("~/.netrc", by_tool("git"), True),
        ("~/.netrc", by_tool("gh"), False),
        ("~/.netrc", by_tool("keyring", proc_id=8), False),  # what uv started
        ("~/.netrc", by_tool("keyring", exec_id=6), False),  # what it has become
        ("~/.netrc", by_tool("keyring", owner=1001), False),
        ("~/.netrc", by_tool("keyring", uid=1001), False),
        ("~/.netrc", by_tool("keyring", taints=("LD_PRELOAD is set",)), False),
        ("~/.git-credentials", by_tool("keyring"), False),
    ],
)
def test_an_enrolled_tool_opens_what_the_catalogue_says_is_its_own_by_itself(pattern, verdict, may):
    assert is_agent_of(place_of(pattern), verdict) == may
