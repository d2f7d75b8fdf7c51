"""One record an incident: what a person needs to act on, made once, stored and shown as it is."""

import uuid

from msgspec import Struct

from agent_broker.ids import AgentName, Epoch, ProcId, Sha256
from agent_broker.lineage.record import Step
from agent_broker.monitor.frameworks import Frameworks, frameworks_of

# An incident must fit one message (monitor.messages), or a lineage made long on purpose would keep it from being told:
# a step has at most 3.6 KB, with every byte of its names escaped (kernel.wire, lineage.text).
_FIRST_STEPS = 20
_LAST_STEPS = 8

NO_EPOCH = Epoch("")
"""The offender's ids are not known."""


class Incident(Struct, frozen=True):
    """An alert. Never holds a secret, a phantom or a decoy's value."""

    id: str
    kind: str
    """One of the kinds in monitor.frameworks."""
    time_ns: int
    """CLOCK_REALTIME."""
    severity: str
    """``critical`` (the offender's lineage is frozen), ``warning`` or ``info``."""
    what: str
    """One sentence."""
    tier: str
    action: str
    """What was done: ``served-decoy``, ``denied``, ``refused`` or ``only-seen``."""
    path: str
    """The marked file, the endpoint or the protocol; empty if none."""
    process_sha256: Sha256 | None
    """Of the offender's executable; None if it could not be read."""
    lineage: tuple[Step, ...]
    """The offender first; empty if unknown, and then ``what`` says why. A very long one lacks its middle."""
    agent: AgentName | None
    """The enrolled agent in the lineage."""
    frameworks: Frameworks
    next_step: str
    epoch: Epoch = NO_EPOCH
    offenders: tuple[ProcId, ...] = ()
    """The processes to freeze if this is critical (identity.evidence.offenders); ids of ``epoch``."""


def new_incident(  # noqa: PLR0913 - one record, named arguments only
    *,
    kind: str,
    time_ns: int,
    severity: str,
    what: str,
    tier: str,
    action: str,
    lineage: tuple[Step, ...] = (),
    path: str = "",
    process_sha256: Sha256 | None = None,
    agent: AgentName | None = None,
    next_step: str = "",
    epoch: Epoch = NO_EPOCH,
    offenders: tuple[ProcId, ...] = (),
) -> Incident:
    """Make an incident with a fresh id and its kind's framework identifiers; ``what`` says if steps were left out."""
    left_out = len(lineage) - _FIRST_STEPS - _LAST_STEPS
    if left_out > 0:
        lineage = (*lineage[:_FIRST_STEPS], *lineage[-_LAST_STEPS:])
        what = f"{what}; {left_out} steps in the middle of its lineage are left out here"
    return Incident(
        id=uuid.uuid4().hex,
        kind=kind,
        time_ns=time_ns,
        severity=severity,
        what=what,
        tier=tier,
        action=action,
        path=path,
        process_sha256=process_sha256,
        lineage=lineage,
        agent=agent,
        frameworks=frameworks_of(kind),
        next_step=next_step,
        epoch=epoch,
        offenders=offenders,
    )
