"""The release rule for a file's view: whose own process may read it. Pure."""

from agent_broker.errors import RefusedError
from agent_broker.grant.tool import require_tool, subject_of
from agent_broker.identity.environment import way_out
from agent_broker.identity.evidence import Evidence
from agent_broker.ids import AgentName, Uid


def require_reader(evidence: Evidence, readers: tuple[AgentName, ...], owner_uid: Uid) -> None:
    """Let pass a process of the owner's that is itself one of the readers, untouched: an agent or a tool.

    Raises:
        RefusedError: ``owner``, ``reader``, ``tool``, ``principal`` or ``taint``.
    """
    if evidence.uid != owner_uid:
        raise RefusedError("owner", "the file belongs to another user")
    if _is_tool(evidence, readers):
        name = evidence.tool.tool if evidence.tool is not None else AgentName("")
        require_tool(evidence, name, owner_uid, itself=True)
        return
    principal = evidence.principal
    if principal is None or not principal.is_caller or principal.agent not in readers:
        raise RefusedError("reader", f"it is none of the programs that read the file ({', '.join(readers)})")
    if principal.owner_uid != owner_uid:
        raise RefusedError("owner", "the agent is another user's")
    if evidence.taints:
        taint = evidence.taints[0]
        raise RefusedError(
            "taint", f"the agent's process is tainted: {taint}", next_step=way_out(principal.agent, taint)
        )


def reader_of(evidence: Evidence, readers: tuple[AgentName, ...]) -> tuple[AgentName, str]:
    """Return for whom a reader works, as a policy's rule names it: an agent, or else ``terminal`` or ``user``."""
    if _is_tool(evidence, readers) or evidence.principal is None:
        return subject_of(evidence)
    return evidence.principal.agent, ""


def _is_tool(evidence: Evidence, readers: tuple[AgentName, ...]) -> bool:
    return evidence.tool is not None and evidence.tool.tool in readers
