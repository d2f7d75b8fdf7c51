"""What happens after a no: the journal has it in full, a person gets one alert, a flood gets counted.

An attacker can be refused as often as it likes, so what it can write here is bounded: the same process refused by
the same rule for the same credential is told once in ``REPEAT_S``, all refusals of the children of one process at most
``PER_FAMILY_PER_MINUTE`` times, and those of one user ``PER_USER_PER_MINUTE`` times; what was left out is counted in
the next entry. So one process that asks by ever new children does not use up what there is room for of its user. The
refusals themselves are not bounded: the answer stays no.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agent_broker.audit.journal import Journal
from agent_broker.clock import Clock
from agent_broker.errors import RefusedError
from agent_broker.identity.evidence import Evidence, Unknown, offenders
from agent_broker.ids import AgentName, Epoch, ProcId
from agent_broker.issue import INJECT, Ask
from agent_broker.lineage.record import Step
from agent_broker.monitor.incident import Incident, new_incident

RaiseAlert = Callable[[Incident], Awaitable[None]]
"""Stores an incident durably and does what its severity asks for."""

REPEAT_S = 10
PER_USER_PER_MINUTE = 120
PER_FAMILY_PER_MINUTE = 20
_REMEMBERED = 4096
_MINUTE_NS = 60_000_000_000

_EXPECTED_RULES = frozenset({"policy", "frozen"})
"""Refusals of a verified agent: journalled, but nobody needs to be woken for them."""

_KIND_OF_RULE = {"taint": "agent-tainted", "updated": "agent-updated"}

_NEXT_STEP = "look at the lineage: the first program in it that you did not start is the intruder"


class RefusalLog:
    """See the module."""

    def __init__(self, journal: Journal, raise_alert: RaiseAlert, clock: Clock) -> None:
        self._journal = journal
        self._raise_alert = raise_alert
        self._clock = clock
        self._last: OrderedDict[tuple[object, ...], int] = OrderedDict()
        self._windows: OrderedDict[tuple[object, ...], tuple[int, int]] = OrderedDict()
        self._left_out = 0

    async def refused(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> None:
        """Journal one refusal and raise its alert, within the bounds.

        Raises:
            UnavailableError: the journal can't be written. The caller's answer is no in any case.
        """
        if not self._is_due(ask, refusal, verdict):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        await self._journal.append(
            "refusal",
            {
                "rule": refusal.rule,
                "why": refusal.detail,
                "credential": ask.credential,
                "mode": ask.mode,
                "channel": ask.channel,
                "uid": verdict.uid,
                "lineage": [step.image.filename for step in verdict.steps],
                "left_out_before": left_out,
            },
        )
        if refusal.rule not in _EXPECTED_RULES:
            await self._raise_alert(self._incident(ask, refusal, verdict))

    def _is_due(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> bool:
        now_ns = self._clock.boot_ns()
        who = verdict.steps[0].proc_id if verdict.steps else None
        key = (verdict.uid, who, refusal.rule, ask.credential, ask.mode)
        last_ns = self._last.get(key)
        if last_ns is not None and now_ns - last_ns < REPEAT_S * 1_000_000_000:
            return False
        self._last[key] = now_ns
        _bound(self._last, key)
        parent = _parent_of(verdict.steps)
        if parent is not None and not self._has_room(("family", parent), PER_FAMILY_PER_MINUTE, now_ns):
            return False
        return self._has_room(("user", verdict.uid), PER_USER_PER_MINUTE, now_ns)

    def _has_room(self, who: tuple[object, ...], most: int, now_ns: int) -> bool:
        """Count one more in this minute of somebody's; return whether it may be told."""
        start_ns, count = self._windows.get(who, (now_ns, 0))
        if now_ns - start_ns > _MINUTE_NS:
            start_ns, count = now_ns, 0
        self._windows[who] = (start_ns, count + 1)
        _bound(self._windows, who)
        return count < most

    def _incident(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> Incident:
        principal = verdict.principal if isinstance(verdict, Evidence) else None
        kind = "phantom-replayed" if ask.mode == INJECT else "release-refused"
        kind = _KIND_OF_RULE.get(refusal.rule, kind)
        return new_incident(
            kind=kind,
            time_ns=self._clock.wall_ns(),
            severity="warning" if refusal.rule == "updated" else _severity(ask, verdict),
            what=_sentence(kind, verdict, refusal),
            tier=verdict.tier if isinstance(verdict, Evidence) else "unknown",
            action="refused",
            path=ask.channel,
            lineage=verdict.steps,
            agent=principal.agent if principal is not None else AgentName(ask.credential.partition("/")[0]),
            next_step=refusal.next_step or _NEXT_STEP,
            epoch=verdict.freshness.epoch if isinstance(verdict, Evidence) else Epoch(""),
            offenders=offenders(verdict.steps, principal),
        )


def _severity(ask: Ask, verdict: Evidence | Unknown) -> str:
    """Critical: somebody known uses what it stole, or an agent's tool reaches for the key. A user's own try is not."""
    if isinstance(verdict, Unknown):
        return "critical" if verdict.hostile else "warning"
    return "critical" if ask.mode == INJECT or verdict.principal is not None else "warning"


def _sentence(kind: str, verdict: Evidence | Unknown, refusal: RefusedError) -> str:
    who = verdict.steps[0].image.filename if verdict.steps else "a process that can't be identified"
    did = {
        "phantom-replayed": f"{who} presented the agent's phantom token",
        "release-refused": f"{who} asked for a credential",
        "agent-tainted": f"{who} asked for a credential with foreign code in it",
        "agent-updated": f"{who} asked for a credential in the place of an enrolled agent",
    }[kind]
    return f"{did}; refused: {refusal.message}"


def _parent_of(steps: tuple[Step, ...]) -> ProcId | None:
    """Return the process that forked the refused one; None: unknown."""
    return next((step.proc_id for step in steps if step.proc_id != steps[0].proc_id), None)


_Key = TypeVar("_Key")


def _bound(remembered: OrderedDict[_Key, Any], newest: _Key) -> None:
    remembered.move_to_end(newest)
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
