"""What an event of a marked file means: pure functions from facts and a verdict to an incident, or to none.

The law of decoys:

1. The main process of the enrolled agent that owns the decoy, running for its owner and untainted, is exempt. So is
   nobody else: not its children, not another agent, not another user.
2. Root without an agent in its lineage (a backup, an administrator's grep) is reported as ``info``; if its lineage is
   not known, as ``warning``, since it could be an agent's ``sudo``. Root may replace a decoy: enrolment does.
3. A new version in the place of the enrolled agent (identity.updated) is not exempt, and a ``warning``: whoever
   updates their agent, and starts it before it is approved, is not an intruder.
4. Everybody else is ``critical``. Unknown is not exempt: the sentence says why the opener could not be identified.
5. Names in sentences come from an attacker: they are cut, and what is not printable ASCII is escaped.

The law of credential paths (who may open one is monitor.credentials' to say; this is about everybody else): whoever
is, or descends from, an enrolled agent is ``critical``, root without an agent is ``info``, everybody else a
``warning``: also if the lineage is unknown, since programs of the user's own open their own credentials all day. So is
a new version of the agent whose own file it is.
"""

from dataclasses import dataclass

from agent_broker.identity.evidence import Evidence, Principal, Unchanged, Unknown, Verdict, offenders, steps_of
from agent_broker.identity.updated import Updated, find_updated
from agent_broker.ids import Epoch, Sha256, Uid
from agent_broker.lineage.record import Image
from agent_broker.monitor.incident import ALLOW, SHOW, Incident, new_incident
from agent_broker.monitor.mark import Mark, Role

CRITICAL = "critical"
WARNING = "warning"
INFO = "info"

SERVED = "served-decoy"
DENIED = "denied"
ONLY_SEEN = "only-seen"

_ALLOW = f"if it is a program that you trust: {ALLOW}"
_ROOT = Uid(0)
_SHOWN_NAME_CHARS = 120
_SHOWN_HEAD_CHARS = 40
_SHOWN_TAIL_CHARS = _SHOWN_NAME_CHARS - _SHOWN_HEAD_CHARS
_SHOWN_TAINTS = 5


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What the kernel said of one event, and what was done about it."""

    time_ns: int
    """CLOCK_REALTIME."""
    pid: int
    """Of the actor, for display; 0 if there is not one actor."""
    epoch: Epoch
    tier: str
    action: str
    """SERVED, DENIED or ONLY_SEEN."""
    other_name: str = ""
    """The path that was opened, if it is not the decoy's own: a hard link, a bind mount, a moved decoy."""
    sha256: Sha256 | None = None
    hash_problem: str = ""
    """Why there is no hash, or why it must be doubted; a clause without a full stop."""


@dataclass(frozen=True, slots=True)
class Gist:
    """What of an event decides which incident it belongs to; the same as in the incident that it makes."""

    kind: str
    severity: str
    path: str


def is_exempt(verdict: Verdict, decoy: Mark) -> bool:
    """Whether the actor is the agent, or the tool, that the decoy belongs to, and nothing speaks against it."""
    if not isinstance(verdict, Evidence) or verdict.taints:
        return False
    principal, tool = verdict.principal, verdict.tool
    if decoy.owner_uid != verdict.uid:
        return False
    if principal is not None and principal.is_caller and principal.agent == decoy.agent:
        return principal.owner_uid == verdict.uid
    # a tool that opens its own files itself, as ssh does to see whether an identity is there
    return (
        tool is not None
        and (not tool.problem or tool.exec_id == verdict.freshness.exec_id)  # how it would ask is not the question
        and tool.proc_id == verdict.freshness.proc_id
        and tool.tool == decoy.agent
        and tool.owner_uid == verdict.uid
    )


def gist_of(decoy: Mark, verdict: Verdict, *, changed: bool = False) -> Gist | None:
    """Return the gist of what ``decide_open`` or ``decide_change`` returns, without its words; None if that is None."""
    if is_exempt(verdict, decoy) or (changed and _severity(verdict) == INFO):
        return None
    opened = "credential-opened" if decoy.role == "credential" else "decoy-opened"
    severity, _ = _weigh(decoy, verdict)
    return Gist("decoy-replaced" if changed else opened, severity, storable(decoy.path))


def decide_open(decoy: Mark, verdict: Verdict, facts: EventFacts) -> Incident | None:
    """Return the incident of an opened decoy; None if the opener is exempt."""
    if is_exempt(verdict, decoy):
        return None
    if decoy.role == "credential":
        return _credential_opened(decoy, verdict, facts)
    done = {SERVED: "and was served it", DENIED: "and was denied"}.get(facts.action, "(only seen, not stopped)")
    name = f" as {printable(facts.other_name)}" if facts.other_name else ""
    sentence = f"{_actor(verdict, facts.pid)} opened the decoy {printable(decoy.path)}{name} {done}"
    return _incident("decoy-opened", sentence, decoy, verdict, facts)


def _credential_opened(mark: Mark, verdict: Verdict, facts: EventFacts) -> Incident:
    done = "and was denied" if facts.action == DENIED else "and was not stopped"
    name = f" as {printable(facts.other_name)}" if facts.other_name else ""
    holds = f", which holds: {printable(mark.kind)}," if mark.kind else ""
    sentence = f"{_actor(verdict, facts.pid)} opened {printable(mark.path)}{holds}{name} {done}"
    return _incident("credential-opened", sentence, mark, verdict, facts)


def decide_change(decoy: Mark, verdict: Verdict, facts: EventFacts, change: str) -> Incident | None:
    """Return the incident of a decoy that was replaced, removed or changed; None if the agent or root did it.

    Args:
        decoy: whose path, or content, changed.
        verdict: of the process that did it.
        facts: of the event.
        change: what was done, a verb phrase in the past: ``deleted``, ``moved another file over``.
    """
    if is_exempt(verdict, decoy) or _severity(verdict) == INFO:
        return None
    sentence = f"{_actor(verdict, facts.pid)} {change} the decoy {printable(decoy.path)}"
    return _incident("decoy-replaced", sentence, decoy, verdict, facts)


def decide_missed(reason: str, facts: EventFacts) -> Incident:
    """Return the incident of a decoy's event that the kernel could not hand over."""
    return new_incident(
        kind="decoy-opened",
        time_ns=facts.time_ns,
        severity=CRITICAL,
        what=f"something opened or changed a marked file and could not be identified: {reason}",
        tier=facts.tier,
        action=facts.action,
        next_step="run: agent-broker doctor; look for processes that you did not start",
    )


def printable(text: str) -> str:
    """Return attacker-chosen text as something that a terminal can show: escaped, and cut where a path says least."""
    shown = text.encode("ascii", "backslashreplace").decode("ascii")
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown)
    return shown if len(shown) <= _SHOWN_NAME_CHARS else f"{shown[:_SHOWN_HEAD_CHARS]}...{shown[-_SHOWN_TAIL_CHARS:]}"


def storable(path: str) -> str:
    """Return a path as a record can hold it: bytes of its name that are not UTF-8 are escaped."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _severity(verdict: Verdict, role: Role = "decoy") -> str:
    match verdict:
        case Evidence(uid=uid, principal=None) if uid == _ROOT:
            return INFO
        case Unknown(uid=uid) if uid == _ROOT:
            return WARNING
        case Evidence(principal=None) | Unknown(hostile=False) | Unchanged() if role == "credential":
            return WARNING
        case _:
            return CRITICAL


def _incident(kind: str, sentence: str, decoy: Mark, verdict: Verdict, facts: EventFacts) -> Incident:
    severity, updated = _weigh(decoy, verdict)
    remark = f"; {printable(updated.sentence)}" if updated is not None else ""
    principal = verdict.principal if isinstance(verdict, Evidence) else None
    return new_incident(
        kind=kind,
        time_ns=facts.time_ns,
        severity=severity,
        what=f"{sentence}{remark}{_remarks(verdict, facts)}",
        tier=facts.tier,
        action=facts.action,
        lineage=steps_of(verdict),
        path=storable(decoy.path),
        role=decoy.role,
        holds=decoy.kind,
        process_sha256=facts.sha256,
        agent=principal.agent if principal else None,
        next_step=_next_step(severity, principal, decoy.role) if updated is None else updated.next_step,
        epoch=facts.epoch,
        offenders=offenders(steps_of(verdict), principal),
    )


def _weigh(decoy: Mark, verdict: Verdict) -> tuple[str, Updated | None]:
    """Return how bad it is, and the new version of an agent that it is the doing of."""
    severity = _severity(verdict, decoy.role)
    updated = _updated(decoy, verdict) if severity == CRITICAL else None
    return (severity if updated is None else WARNING), updated


def _updated(decoy: Mark, verdict: Verdict) -> Updated | None:
    """Return what the actor itself is a new version of, if that is the decoy's own agent."""
    if not isinstance(verdict, Evidence):
        return None
    enrollments = () if decoy.enrollment is None else (decoy.enrollment,)
    names = decoy.agents if decoy.agent is None else (decoy.agent,)
    found = next(filter(None, (find_updated(verdict, name, enrollments) for name in names)), None)
    return found if found is not None and found.is_caller else None


def _actor(verdict: Verdict, pid: int) -> str:
    """Name the actor: its program, its pid, its user, and its agent if it has one."""
    steps = steps_of(verdict)
    program = _program(steps[0].image) if steps else "a process"
    uid = verdict.uid if isinstance(verdict, Evidence | Unknown) else None
    user = f", uid {uid}" if uid is not None else ""
    return f"{program} (pid {pid}{user}){agent_clause(verdict)}"


def _program(image: Image) -> str:
    return printable(image.filename or image.argv0) or "a process"


def agent_clause(verdict: Verdict) -> str:
    """Return what a sentence says of the agent behind an actor, with its commas; empty if there is none."""
    principal = verdict.principal if isinstance(verdict, Evidence) else None
    if principal is None:
        return ""
    if not principal.is_caller:
        return f", started by the agent {principal.agent},"
    return f", which is the agent {principal.agent}" + (", tainted," if _taints(verdict) else ",")


def _taints(verdict: Verdict) -> tuple[str, ...]:
    return verdict.taints if isinstance(verdict, Evidence) else ()


def _remarks(verdict: Verdict, facts: EventFacts) -> str:
    """Return the clauses behind the sentence, each with its separator; empty if there are none."""
    remarks = [f"tainted: {printable(taint)}" for taint in _taints(verdict)[:_SHOWN_TAINTS]]
    if isinstance(verdict, Unknown):
        remarks.append(f"its lineage is unknown: {printable(verdict.reason)}")
    if facts.hash_problem:
        remarks.append(facts.hash_problem)
    return "".join(f"; {remark}" for remark in remarks)


def _next_step(severity: str, principal: Principal | None, role: Role) -> str:
    if severity == INFO:
        return f"nothing, if this was your backup or your own command as root; {_ALLOW}"
    if role == "credential":
        asked = f"look at what {principal.agent} was asked to do; " if principal is not None else ""
        return f"{asked}if you did not want this, revoke what the file holds; {_ALLOW}"
    look = f"read its lineage ({SHOW}); if you did not start this program, treat it and what it can read as hostile"
    if principal is not None and not principal.is_caller:
        return f"look at what {principal.agent} was asked to do, and by whom; {look}"
    return f"{look}; {_ALLOW}"
