"""What is watched: one file, what it stands for, and who may open it."""

from dataclasses import dataclass
from typing import Literal

from agent_broker.identity.registry import Enrollment
from agent_broker.ids import AgentName, Uid

Role = Literal["decoy", "credential", "config"]
"""``decoy``: nobody but the owning agent's main process opens it without an alert. ``credential``: an allowlist of
verified binaries does. ``config``: everybody may read it; who writes it is told."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One watched file."""

    path: str
    agent: AgentName | None
    """Whose it is; None: of no enrolled agent (a planted decoy, a credential path)."""
    owner_uid: Uid
    deny: bool
    """True: others get EPERM where the tier can; False: they are let through."""
    enrollment: Enrollment | None = None
    """Whose it is in full, to tell an updated agent from a stranger."""
    role: Role = "decoy"
    shared: bool = False
    """A decoy in a file that holds entries of the owner's too: who may open such a file may open it."""
    agents: tuple[AgentName, ...] = ()
    """Of a credential path: the agents whose own file it is."""
    kind: str = ""
    """What it holds, or seems to hold: a kind of honeytoken or of the catalogue (``aws-profile``)."""
