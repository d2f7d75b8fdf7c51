"""Whose own process may read a viewed file, and for whom it works."""

import os

import msgspec
import pytest

from agent_broker.errors import RefusedError
from agent_broker.grant.reader import reader_of, require_reader
from agent_broker.identity.evidence import Principal, ToolUse
from agent_broker.ids import AgentName, ExecId, ProcId, Sha256, Uid
from tests.fakes.issuer import ProcMonitor

OWNER = Uid(os.getuid())
READERS = (AgentName("codex"), AgentName("reader.npm"))
HASH = Sha256("0" * 64)


def evidence(agent="", tool="", *, is_caller=True, itself=True, owner=OWNER, taints=(), **use):
    found = ProcMonitor().evidence(os.getpid())
    ids = (ProcId(1), ExecId(1), HASH)
    principal = Principal(AgentName(agent), owner, *ids, is_caller=is_caller, depth=0) if agent else None
    used = ToolUse(AgentName(tool), owner, *ids, is_caller=itself, **use) if tool else None
    return msgspec.structs.replace(found, principal=principal, tool=used, taints=taints)


@pytest.mark.parametrize(
    ("who", "subject"),
    [
        (evidence("codex"), ("codex", "")),
        (evidence(tool="reader.npm", no_terminal="a script"), ("", "user")),
        (evidence(tool="reader.npm"), ("", "terminal")),
        (evidence("claude", "reader.npm", is_caller=False), ("claude", "")),
        (evidence("codex", "git"), ("codex", "")),
        (evidence(tool="reader.npm", problem="it does not ask through the shim", no_terminal="-c"), ("", "user")),
    ],
)
def test_a_reader_passes_and_a_rule_is_about_whom_it_works_for(who, subject):
    require_reader(who, READERS, OWNER)
    assert reader_of(who, READERS) == subject


@pytest.mark.parametrize(
    ("who", "rule"),
    [
        (evidence(), "reader"),
        (evidence("claude"), "reader"),
        (evidence("codex", is_caller=False), "reader"),
        (evidence(tool="git"), "reader"),
        (evidence("codex", owner=Uid(OWNER + 1)), "owner"),
        (evidence(tool="reader.npm", owner=Uid(OWNER + 1)), "tool"),
        (evidence(tool="reader.npm", problem="asks in its place", itself=False), "tool"),
        (evidence(tool="reader.npm", itself=False), "tool"),  # its shim, as it was enrolled
        (evidence("codex", taints=("LD_PRELOAD",)), "taint"),
        (evidence(tool="reader.npm", taints=("NODE_OPTIONS",)), "taint"),
        (msgspec.structs.replace(evidence("codex"), uid=Uid(OWNER + 1)), "owner"),
    ],
)
def test_nobody_else_does(who, rule):
    with pytest.raises(RefusedError) as caught:
        require_reader(who, READERS, OWNER)
    assert caught.value.rule == rule
