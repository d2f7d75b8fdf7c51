"""One record an incident: what a person needs to act on, made once, stored and shown as it is."""

import uuid
from typing import Final, NotRequired, TypedDict, Unpack

from msgspec import Struct, structs

from agent_broker.clock import Clock
from agent_broker.ids import AgentName, Epoch, ProcId, Sha256
from agent_broker.lineage.record import Step
from agent_broker.monitor.frameworks import Frameworks, frameworks_of

# An incident must fit one message (monitor.messages), or a lineage made long on purpose would keep it from being told:
# a step has at most 3.7 KB, with every byte of its names escaped (kernel.wire, lineage.text).
_FIRST_STEPS = 19
_LAST_STEPS = 8

SEVERITIES: Final = ("info", "warning", "critical")
"""In growing order."""

NO_EPOCH = Epoch("")
"""The offender's ids are not known."""


NO_TIER: Final = "unknown"
"""Of an incident that the broker makes: the monitor says the tier (monitor.completing)."""

NONE: Final = "none"
"""The tier without kernel evidence: also while no monitor answers."""

_ID_MARK: Final = "ALERT_ID"
_ID_CHARS: Final = 12  # in a sentence: the first letters name an alert
SHOW: Final = f"agent-broker alert show {_ID_MARK}"
ALLOW: Final = f"sudo agent-broker alert ack {_ID_MARK} --allow --reason TEXT"
"""Commands for next steps; ``addressed`` puts the id in, when it is final (incidents are folded, and named anew)."""


class Offender(Struct, frozen=True):
    """What a person wants to know of the process beside its lineage; for display, empty where it could not be read.

    Read of the process itself (/proc), when it may have changed already: nothing is decided by it.
    """

    command: tuple[str, ...] = ()
    """Its arguments, whole or cut."""
    cwd: str = ""
    package: str = ""
    """The distribution's package that owns its executable, and its version: ``git 1:2.39.5-0+deb12u2``."""
    container: str = ""
    """What names the container that it runs in; empty: none."""


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
    lineage: tuple[Step, ...]
    """The offender first; empty if unknown, and then ``what`` says why. A very long one lacks its middle."""
    frameworks: Frameworks
    path: str = ""
    """The marked file, the endpoint or the protocol; empty if none."""
    process_sha256: Sha256 | None = None
    """Of the offender's executable; None if it could not be read."""
    agent: AgentName | None = None
    """The enrolled agent in the lineage."""
    next_step: str = ""
    epoch: Epoch = NO_EPOCH
    offenders: tuple[ProcId, ...] = ()
    """The processes to freeze if this is critical (identity.evidence.offenders); ids of ``epoch``."""
    revision: int = 0
    """0 when it is told first; the same id with a higher one replaces what was told before."""
    count: int = 1
    """Events that were folded into this incident."""
    last_ns: int = 0
    """CLOCK_REALTIME of the last of them; ``time_ns`` is that of the first."""
    boot_ns: int = 0
    """CLOCK_BOOTTIME of the first; 0: not known."""
    role: str = ""
    """What the path is watched as (monitor.mark.Role); empty if none."""
    holds: str = ""
    """Kind of what the path holds or seems to hold; empty if none."""
    offender: Offender | None = None
    session: str = ""
    """Of the agent, if it is known."""
    changes: tuple[str, ...] = ()
    """Of a changed settings file: lines that say what changed, secrets redacted."""
    paths: tuple[str, ...] = ()
    """Further marked files that the same lineage opened, of the same kind; bounded."""
    response: str = ""
    """What was done: which grants ended, who was frozen (by the broker) or stopped (by the monitor)."""
    grants: str = ""
    """State of grants and freezes when this was stored, a clause; the broker says it."""

    def sha256_of(self, index: int) -> Sha256 | None:
        """Return the hash of a lineage step's executable: the offender's own is the incident's; None: not known."""
        return self.lineage[index].sha256 if index else self.process_sha256


def rank(severity: str) -> int:
    """Return how severe: 0 to 2; a word that is not known counts as critical, so that nothing is hidden by it."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES) - 1


def addressed(incident: Incident) -> Incident:
    """Return an incident whose next step names it by its id."""
    if _ID_MARK not in incident.next_step:
        return incident
    return structs.replace(incident, next_step=incident.next_step.replace(_ID_MARK, incident.id[:_ID_CHARS]))


class Details(TypedDict, total=False):
    """What not every incident has; see Incident."""

    path: str
    process_sha256: Sha256 | None
    agent: AgentName | None
    next_step: str
    epoch: Epoch
    offenders: tuple[ProcId, ...]
    role: str
    holds: str
    offender: Offender | None
    session: str
    changes: tuple[str, ...]


class Facts(Details):
    """What every incident has, but for its time."""

    kind: str
    severity: str
    what: str
    tier: str
    action: str
    lineage: NotRequired[tuple[Step, ...]]


def new_incident(  # noqa: PLR0913 - one record, named arguments only
    *,
    kind: str,
    time_ns: int,
    severity: str,
    what: str,
    tier: str,
    action: str,
    lineage: tuple[Step, ...] = (),
    boot_ns: int = 0,
    **details: Unpack[Details],
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
        lineage=lineage,
        frameworks=frameworks_of(kind),
        last_ns=time_ns,
        boot_ns=boot_ns,
        **details,
    )


def incident_now(clock: Clock, **facts: Unpack[Facts]) -> Incident:
    """Make an incident of what happens at this moment, by both clocks; otherwise as ``new_incident``."""
    return new_incident(time_ns=clock.wall_ns(), boot_ns=clock.boot_ns(), **facts)
