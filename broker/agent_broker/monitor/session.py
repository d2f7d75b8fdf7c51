"""Which session of an agent a lineage belongs to, from what the kernel captured when registered images started.

Claude Code names its session in the environment of what it starts (CLAUDE_CODE_SESSION_ID, and TRACEPARENT if it is
told to propagate it), and takes one as an argument (``--session-id``, ``--resume``). Only images of enrolled files are
captured, so a session is known if such an image is in the lineage: the agent that was started with one, or its own
binary that it started again as a helper. It is for display: a program below the agent can start the agent's binary
with any environment.
"""

import re
from collections.abc import Callable

from agent_broker.ids import ExecId
from agent_broker.lineage.record import Captured, Step

_ARGUMENTS = (b"--session-id", b"--resume", b"-r")
_ID = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def session_of(captured_of: Callable[[ExecId], Captured | None], steps: tuple[Step, ...]) -> str:
    """Return the session that the nearest image names; empty: none does."""
    for step in steps:
        captured = captured_of(step.image.exec_id)
        if captured is None:
            continue
        found = captured.session or _of_arguments(captured.arguments.split(b"\0"))
        if found:
            return found
    return ""


def _of_arguments(arguments: list[bytes]) -> str:
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition(b"=")
        if name in _ARGUMENTS:
            value = value if equals else b"".join(arguments[index + 1 : index + 2])
            if _ID.fullmatch(value):
                return value.decode("ascii")
    return ""
