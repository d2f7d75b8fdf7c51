"""The release rule for a tool: whom it works for, and whether nothing foreign stands on the way. Pure."""

from collections.abc import Mapping
from typing import Final

from agent_broker.errors import RefusedError
from agent_broker.identity.evidence import Evidence
from agent_broker.ids import AgentName, Uid

TERMINAL: Final = "terminal"
USER: Final = "user"
_ENROLLED_AS: Final[Mapping[str, str]] = {"pnpm": ", with --ignore-scripts and --ignore-pnpmfile"}
"""What a tool must have been told (its role, in enroll), by its name; for people."""


def require_tool(evidence: Evidence, tool: AgentName, owner_uid: Uid, *, itself: bool = False) -> None:
    """Let pass a caller that serves this enrolled tool of this owner, untouched on its whole way.

    ``itself``: the caller must be the tool's own process, whether or not it has a shim to ask through.

    Raises:
        RefusedError: ``owner``, ``tool``, ``principal`` or ``taint``.
    """
    if evidence.uid != owner_uid:
        raise RefusedError("owner", "the credential belongs to another user")
    used, agent = evidence.tool, evidence.principal
    if used is None or (used.tool, used.owner_uid) != (tool, owner_uid):
        raise RefusedError(
            "tool",
            f"the caller was not started by {tool} as it was enrolled{_ENROLLED_AS.get(tool, '')}",
            next_step=f"if {tool} was updated or moved: sudo agent-broker unenroll {tool}, then enroll it again",
        )
    problem = used.problem if not itself else "" if used.is_caller else used.problem or "another process asks for it"
    if problem:
        raise RefusedError("tool", f"{tool} does not ask as it was enrolled: {problem}")
    if agent is not None and agent.owner_uid != owner_uid:
        raise RefusedError("principal", "the agent that started it is another user's")
    if evidence.taints:
        raise RefusedError(
            "taint",
            f"{tool}, or what started it, is tainted: {evidence.taints[0]}",
            next_step=f"start {tool} without that",
        )


def subject_of(evidence: Evidence) -> tuple[AgentName, str]:
    """Return for whom a tool works: an agent's name, or else ``terminal`` or ``user``."""
    if evidence.principal is not None:
        return evidence.principal.agent, ""
    typed = evidence.tool is not None and not evidence.tool.no_terminal
    return AgentName(""), TERMINAL if typed else USER
