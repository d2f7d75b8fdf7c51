"""Who may change an agent's settings, and what the incident says: pure decisions.

In this order:
1. The agent's own main process, untainted, of the file's owner, that no agent started: no incident.
2. Root outside of any agent: no incident. Root can do worse.
3. An editor of the distribution, outside of any agent: no incident (the caller of this module says so).
4. What runs below an agent, an agent that is tainted, and whoever can't be identified: ``critical``.
5. Everybody else, an agent that another agent started, and a new version of the agent: ``warning``.
"""

from dataclasses import dataclass

from agent_broker.clock import Clock
from agent_broker.identity.evidence import Evidence, Unknown, Verdict, offenders, steps_of
from agent_broker.identity.registry import Enrollment, SettingsFile
from agent_broker.identity.updated import find_updated
from agent_broker.ids import Epoch, Uid
from agent_broker.monitor.detection import CRITICAL, ONLY_SEEN, WARNING, agent_clause, is_exempt, printable
from agent_broker.monitor.incident import SHOW, Incident, incident_now
from agent_broker.monitor.mark import Mark

_ROOT = Uid(0)
_NEXT = (
    f"read what changed ({SHOW}); if you did not do it, put it back before you start the agent: "
    "it runs what stands there"
)


@dataclass(frozen=True)
class Watched:
    """One settings file of one enrolment."""

    file: SettingsFile
    enrollment: Enrollment

    @property
    def mark(self) -> Mark:
        """What it is as a mark."""
        owner = self.enrollment
        return Mark(self.file.path, owner.agent, owner.owner_uid, deny=False, enrollment=owner, role="config")


@dataclass(frozen=True)
class Writing:
    """Who wrote, and how often."""

    verdict: Verdict
    pid: int
    count: int
    doubt: str = ""
    """Why it may have been somebody else; empty: it was this one."""


@dataclass(frozen=True)
class Seen:
    """What every incident says of the monitor that made it."""

    clock: Clock
    epoch: Epoch
    tier: str


def severity_of(watched: Watched, verdict: Verdict) -> str:
    """Return how bad a change by this process is; empty: it may."""
    if isinstance(verdict, Unknown):
        return WARNING if verdict.uid == _ROOT else CRITICAL
    if not isinstance(verdict, Evidence):
        return CRITICAL
    if is_exempt(verdict, watched.mark):
        return WARNING if _is_nested(verdict) else ""
    principal = verdict.principal
    if principal is not None:
        other = principal.is_caller and (verdict.is_updated or not verdict.taints)
        return WARNING if other else CRITICAL
    return "" if verdict.uid == _ROOT else WARNING


def _is_nested(verdict: Evidence) -> bool:
    """Whether the same program is an ancestor of this process: an agent's tool that started the agent."""
    principal, file = verdict.principal, verdict.caller.file
    if principal is None:
        return False
    above = [step.image for step in verdict.steps if step.proc_id != principal.proc_id]
    return any(
        (image.file.dev, image.file.ino) == (file.dev, file.ino) and image.argv0 == verdict.caller.argv0
        for image in above
    )


def decide(watched: Watched, writing: Writing, changes: tuple[str, ...], severity: str, seen: Seen) -> Incident:
    """Return the incident of settings that were changed by somebody who may not."""
    verdict = writing.verdict
    steps = steps_of(verdict)
    principal = verdict.principal if isinstance(verdict, Evidence) else None
    updated = None
    if isinstance(verdict, Evidence) and principal is None:
        updated = find_updated(verdict, watched.enrollment.agent, (watched.enrollment,))
    return incident_now(
        seen.clock,
        kind="config-changed",
        severity=severity,
        what=_sentence(watched, writing, changes, "" if updated is None else updated.sentence),
        tier=seen.tier,
        action=ONLY_SEEN,
        lineage=steps,
        path=watched.file.path,
        role="config",
        holds=f"{watched.enrollment.agent}-settings",
        agent=principal.agent if principal is not None else None,
        next_step=_NEXT if updated is None else updated.next_step,
        epoch=seen.epoch,
        offenders=() if writing.doubt else offenders(steps, principal),
        changes=changes,
    )


def _sentence(watched: Watched, writing: Writing, changes: tuple[str, ...], updated: str) -> str:
    verdict = writing.verdict
    steps = steps_of(verdict)
    image = steps[0].image if steps else None
    program = printable(image.filename or image.argv0) if image is not None else "a process"
    user = f", uid {image.uid}" if image is not None else ""
    who = f"{program} (pid {writing.pid}{user}){agent_clause(verdict)}"
    times = f" {writing.count} times" if writing.count > 1 else ""
    what = f"{who} wrote {watched.enrollment.agent}'s settings {printable(watched.file.path)}{times}"
    remarks = [printable(changes[0]) if changes else "what they say did not change"]
    remarks += [f"and {len(changes) - 1} more changes"] if len(changes) > 1 else []
    remarks += [f"its lineage is unknown: {printable(verdict.reason)}"] if isinstance(verdict, Unknown) else []
    remarks += [writing.doubt] if writing.doubt else []
    remarks += [printable(updated)] if updated else []
    return "; ".join([what, *remarks])
