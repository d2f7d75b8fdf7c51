"""What travels between the monitor and its two callers (the broker; root's command line).

One msgpack message a SEQPACKET datagram on ``monitor.sock``; a request may carry pidfds (SCM_RIGHTS).
Answers carry the request's ``id``; ``IncidentPush`` answers a Subscribe any number of times.
"""

from msgspec import Struct

from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown
from agent_broker.ids import Epoch, ProcId
from agent_broker.lineage.record import Step
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.provenance import Provenance
from agent_broker.monitor.sight import Sight

MAX_MESSAGE_BYTES = 128 * 1024  # below the default socket buffer (net.core.wmem_default, 208 KiB)
MAX_PROCESSES = 64  # of one question; the longest lineages of so many fit a message


class Attest(Struct, frozen=True, tag="attest"):
    """Who is behind the pidfd that came with this message? ``known``: say only if it changed."""

    id: int
    known: Freshness | None = None


class AttestSocket(Struct, frozen=True, tag="attest-socket"):
    """Who holds the socket with this inode number (sockfs)? Exactly one process may."""

    id: int
    inode: int
    known: Freshness | None = None


class FindOtherEnd(Struct, frozen=True, tag="find-other-end"):
    """Which socket (inode in sockfs) is connected to the unix socket with this inode number, in whatever namespace?"""

    id: int
    inode: int


class GetParents(Struct, frozen=True, tag="get-parents"):
    """Whose children are the processes behind the pidfds, up to MAX_PROCESSES, that came with this message?"""

    id: int


class Recheck(Struct, frozen=True, tag="recheck"):
    """Is the process of this evidence still alive and unchanged? Asked by numbers alone, right after an attestation."""

    id: int
    known: Freshness


class Confirm(Struct, frozen=True, tag="confirm"):
    """Is the process behind the pidfd that came with this message still what this evidence said?

    By the kernel's own record of it: no event is needed for the answer, so one that was lost is no matter, and nothing
    looks into the process.
    """

    id: int
    known: Freshness


class DescribePid(Struct, frozen=True, tag="describe-pid"):
    """The recorded lineage of a live pid, for display only."""

    id: int
    pid: int


class Reload(Struct, frozen=True, tag="reload"):
    """Read the registry again; answered when every mark and registration is in place.

    Harmless from the broker too: the registry is root's, and reading it again changes nothing that root did not.
    """

    id: int


class LetGoOn(Struct, frozen=True, tag="let-go-on"):
    """Continue those of these processes that this monitor stopped (monitor.halt): their freeze was lifted."""

    id: int
    epoch: Epoch
    proc_ids: tuple[ProcId, ...]


class Complete(Struct, frozen=True, tag="complete"):
    """Say what is known of the offender of an incident that the broker raises (monitor.completing).

    If the operator wants offenders stopped, this asks for it too: monitor.halt says who is never stopped.
    """

    id: int
    incident: Incident


class WhoWrote(Struct, frozen=True, tag="who-wrote"):
    """Who wrote the file behind the descriptor that came with this message? For display."""

    id: int


class MountView(Struct, frozen=True, tag="mount-view"):
    """Mount the file view with the descriptor of /dev/fuse that came with this message, for as long as I live."""

    id: int


class GetStatus(Struct, frozen=True, tag="get-status"):
    """How is the monitor?"""

    id: int


class Subscribe(Struct, frozen=True, tag="subscribe"):
    """Push all incidents that are not acknowledged, then new ones as they are made."""

    id: int


class Acknowledge(Struct, frozen=True, tag="acknowledge"):
    """The incidents up to and including ``sequence`` are stored durably elsewhere. Not answered."""

    id: int
    sequence: int


class VerdictAnswer(Struct, frozen=True, tag="verdict"):
    """Answers Attest, AttestSocket, Recheck and Confirm."""

    id: int
    verdict: Evidence | Unknown | Unchanged


class OtherEnd(Struct, frozen=True, tag="other-end"):
    """Answers FindOtherEnd; inode 0: there is none that a process holds."""

    id: int
    inode: int


class ParentsAnswer(Struct, frozen=True, tag="parents"):
    """Answers GetParents: for each in turn its number and those of all it descends from; none: not wholly known."""

    id: int
    lineages: tuple[tuple[ProcId, ...], ...]


class LineageAnswer(Struct, frozen=True, tag="lineage"):
    """Answers DescribePid; no steps: the process is not known, and ``reason`` says why."""

    id: int
    steps: tuple[Step, ...]
    reason: str = ""


class ProvenanceAnswer(Struct, frozen=True, tag="provenance"):
    """Answers WhoWrote."""

    id: int
    provenance: Provenance


class Mounted(Struct, frozen=True, tag="mounted"):
    """Answers MountView; ``problem``: why it is not, or empty."""

    id: int
    problem: str


class WentOn(Struct, frozen=True, tag="went-on"):
    """Answers LetGoOn: how many were continued."""

    id: int
    count: int


class Completed(Struct, frozen=True, tag="completed"):
    """Answers Complete."""

    id: int
    incident: Incident


class ReloadAnswer(Struct, frozen=True, tag="reloaded"):
    """Answers Reload; ``problems`` are sentences, one for each thing that could not be watched."""

    id: int
    agents: int
    decoys: int
    problems: tuple[str, ...]


class MonitorStatus(Struct, frozen=True, tag="status"):
    """Answers GetStatus."""

    id: int
    epoch: str
    tier: str
    version: str
    processes: int
    """Live thread groups in the lineage store."""
    images: int
    events: int
    """Ring events consumed since start."""
    lost_events: int
    """Events that the kernel side could not hand over; each made some lineage unknown."""
    incidents_made: int
    incidents_unacknowledged: int
    spool_dropped: int
    agents: int
    decoys_watched: int
    problems: tuple[str, ...]
    sight: Sight = Sight()
    """What is denied or seen of attacks on a running agent."""
    backend: str = "core"
    """Who made the programs of the kernel side (config, ``[sensor]``)."""
    offsets: str = ""
    """Where they learnt the fields of kernel structures: ``btf`` or ``headers``; empty: none are loaded."""
    credentials_watched: int = 0
    """Files at credential paths that are marked now."""
    blind: str = ""
    """Why the kernel side is not believed now (monitor.heartbeat); empty: it was proven to report."""
    proven_age_ns: int = -1
    """How long ago that was; below 0: never."""
    incidents_in_work: int = 0
    """What was seen and may be told, and is still looked at: who it was, what hash. 0 and nothing unacknowledged: what
    was done to marked files, settings and agents before the question is with the broker (in the tier observe: what was
    read of it). Not counted: repeats of what was told, and what is found by looking from time to time."""
    why_not_denied: str = ""
    """Why the kernel denies nothing by itself, in its own words; empty: it does, or nothing is loaded."""


class IncidentPush(Struct, frozen=True, tag="incident"):
    """One incident of a subscription; ``sequence`` grows by one."""

    id: int
    sequence: int
    incident: Incident


class Rejected(Struct, frozen=True, tag="rejected"):
    """The request was malformed, or is not for this caller."""

    id: int
    reason: str


Question = Attest | AttestSocket | Recheck | Confirm
"""What a verdict answers."""

Request = (
    Attest
    | AttestSocket
    | FindOtherEnd
    | GetParents
    | Recheck
    | Confirm
    | DescribePid
    | WhoWrote
    | MountView
    | Reload
    | GetStatus
    | Subscribe
    | Acknowledge
    | LetGoOn
    | Complete
)
Answer = (
    VerdictAnswer
    | OtherEnd
    | ParentsAnswer
    | LineageAnswer
    | ProvenanceAnswer
    | ReloadAnswer
    | MonitorStatus
    | IncidentPush
    | Rejected
    | WentOn
    | Mounted
    | Completed
)
