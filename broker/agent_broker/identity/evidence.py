"""What an attestation says: structs that travel from the monitor to the broker."""

from msgspec import Struct

from agent_broker.ids import AgentName, Epoch, ExecId, ProcId, Sha256, Uid
from agent_broker.lineage.record import Image, Step


class Freshness(Struct, frozen=True):
    """The kernel's numbers of a process at one moment: equal numbers, same process, same image, same taints."""

    epoch: Epoch
    proc_id: ProcId
    exec_id: ExecId
    taints: int


class Principal(Struct, frozen=True):
    """The enrolled agent that a caller is, or descends from."""

    agent: AgentName
    owner_uid: Uid
    proc_id: ProcId
    exec_id: ExecId
    sha256: Sha256
    is_caller: bool
    """True: the caller itself is the agent's main process. False: a descendant, or a helper of it."""
    depth: int
    """Forks between the caller and the principal; 0 if the caller is it."""


class ToolUse(Struct, frozen=True):
    """The enrolled tool that a caller serves, and on whose behalf it works (identity.tool)."""

    tool: AgentName
    """Its name in the registry: ``git``."""
    owner_uid: Uid
    proc_id: ProcId
    exec_id: ExecId
    sha256: Sha256
    problem: str = ""
    """Why what stands between the caller and the tool is not to be believed; empty: it is."""
    no_terminal: str = ""
    """Why it was not typed into a terminal of the user's; empty: it was. Means nothing below an agent."""
    is_caller: bool = False
    """The caller is the tool's own image, and nothing stands between; ``problem`` is about what asks through a shim."""


class Evidence(Struct, frozen=True, tag="evidence"):
    """Complete evidence of a caller; anything missing makes it Unknown instead."""

    freshness: Freshness
    uid: Uid
    steps: tuple[Step, ...]
    """The caller first, its origin last. Never empty."""
    principal: Principal | None
    """The nearest main process of an enrolled agent on the way up; None: no agent in the lineage."""
    taints: tuple[str, ...]
    """Taints of the caller and of every step up to and including the principal."""
    tier: str
    folder: bytes = b""
    """The working directory of an agent's main process when it was attested, as the monitor's root names it. Empty: it
    is not known, it was deleted, or nobody needs to know: no account of the agent has folders."""
    is_updated: bool = False
    """The only taint is that the principal's package is not what was enrolled, and was not before it was started: an
    update that nobody approved yet. It grants nothing; it says what a person is told."""
    tool: ToolUse | None = None
    """The nearest enrolled tool on the way up to the agent, or to the origin; None: there is none."""

    @property
    def caller(self) -> Image:
        """The caller's own image."""
        return self.steps[0].image


class Unknown(Struct, frozen=True, tag="unknown"):
    """No complete evidence: the request is refused, and this is why.

    ``steps`` holds what is known of the lineage, for the alert; it decides nothing.
    """

    reason: str
    next_step: str = ""
    uid: Uid | None = None
    steps: tuple[Step, ...] = ()
    hostile: bool = False
    """Somebody reached for what is the agent's; ``steps`` are that process's."""
    writer: Evidence | None = None
    """The one program that wrote all that came on a connection, which others hold as well. It grants nothing; it says
    what a person is told."""


class Unchanged(Struct, frozen=True, tag="unchanged"):
    """The caller is still what the evidence with this freshness said."""

    freshness: Freshness


def offenders(steps: tuple[Step, ...], principal: Principal | None) -> tuple[ProcId, ...]:
    """Return the processes that an incident is held against, the offender first.

    Below an agent: the offender and all between it and the agent's main process, which is not one of them (it may
    not know what its tool does; its own tools are what came between). Without an agent, or if the main process is
    the offender itself: the offender alone, since its ancestors are the user's own shells.
    """
    if not steps:
        return ()
    if principal is None or principal.is_caller:
        return (steps[0].proc_id,)
    found = dict.fromkeys(step.proc_id for step in steps)
    below = list(found)[: list(found).index(principal.proc_id)]
    return tuple(below)


Verdict = Evidence | Unknown | Unchanged


def steps_of(verdict: Verdict) -> tuple[Step, ...]:
    """Return the lineage that a verdict tells, the caller first; empty if it tells none."""
    return verdict.steps if isinstance(verdict, Evidence | Unknown) else ()
