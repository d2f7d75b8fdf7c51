"""What a person names on the command line, as the control plane wants it."""

from agent_broker.config.accounts import user_id
from agent_broker.errors import MisuseError
from agent_broker.ids import AgentName, Pid
from agent_broker.transport.control_records import AgentTarget, OneFreeze, ProcessTarget


def freeze_target(text: str, user: str) -> ProcessTarget | AgentTarget:
    """Return the process (a number) or the agent (a name, perhaps of one user) that is meant.

    Raises:
        MisuseError: a process with ``user``, or no such user.
    """
    return ProcessTarget(Pid(int(text))) if _is_number(text, user) else _agent(text, user)


def thaw_target(text: str, user: str) -> OneFreeze | AgentTarget:
    """Return the freeze (its number) or the agent that is meant; raises as ``freeze_target``."""
    return OneFreeze(int(text)) if _is_number(text, user) else _agent(text, user)


def _is_number(text: str, user: str) -> bool:
    if not (text.isascii() and text.isdecimal()):
        return False
    if user:
        raise MisuseError("--user goes with the name of an agent, not with a number")
    return True


def _agent(text: str, user: str) -> AgentTarget:
    if not user:
        return AgentTarget(AgentName(text))
    return AgentTarget(AgentName(text), user_id(int(user) if user.isascii() and user.isdecimal() else user))
