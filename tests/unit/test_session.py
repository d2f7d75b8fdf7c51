"""Which session an incident belongs to, from what was captured at exec."""

import pytest

from agent_broker.identity.environment import scan_strings
from agent_broker.monitor.session import session_of
from tests.fakes.lineage_records import a_lineage

ID = "0b0f7f3e-5d3c-4f0e-9b59-0123456789ab"
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def named(strings):
    """Return the session of a lineage, of whose images some were captured: {exec_id: (arguments, environment)}."""
    captured = {exec_id: scan_strings(*each) for exec_id, each in strings.items()}
    return session_of(captured.get, a_lineage(7, 8, 9))


@pytest.mark.parametrize(
    ("environment", "session"),
    [
        (f"A=1\0CLAUDE_CODE_SESSION_ID={ID}\0", ID),
        (f"TRACEPARENT={TRACE}\0", TRACE),
        (f"TRACEPARENT={TRACE}\0CLAUDE_CODE_SESSION_ID={ID}\0", ID),
        ("CLAUDE_CODE_SESSION_ID=\x1b[2Jevil\0", ""),
        ("CLAUDE_CODE_SESSION_ID=" + "x" * 65 + "\0", ""),
        ("TRACEPARENT=sk-ant-api03-secret\0", ""),
        (f"MY_CLAUDE_CODE_SESSION_ID={ID}\0", ""),
        ("", ""),
    ],
)
def test_the_environment_at_exec_names_the_session(environment, session):
    assert named({8: (b"claude\0", environment.encode())}) == session


@pytest.mark.parametrize(
    ("arguments", "session"),
    [
        (f"claude\0--session-id\0{ID}\0", ID),
        (f"claude\0--resume={ID}\0", ID),
        ("claude\0--resume\0", ""),
        ("claude\0--resume\0fix the tests\0", ""),
        (f"claude\0-p\0{ID}\0", ""),
    ],
)
def test_the_agents_arguments_name_it(arguments, session):
    assert named({9: (arguments.encode(), b"")}) == session


def test_the_nearest_image_wins_and_what_was_not_captured_says_nothing():
    environment = f"CLAUDE_CODE_SESSION_ID={ID}\0".encode()

    assert named({8: (b"rg\0", environment), 9: (b"claude\0--session-id\0" + b"0" * 36, b"")}) == ID
    assert named({}) == ""
