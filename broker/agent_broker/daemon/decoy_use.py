"""Somebody presents a decoy's value: nobody but who read the decoy can have it, so this is the surest alert there is.

The law:
1. Whoever it is gets a plain no, which does not say why.
2. The incident is critical, its offender is the process at the other end as the monitor attests it, and it names the
   decoy's file, never the value. Who can't be identified is told all the same.
3. One exception: the untainted main process of the agent that an enrolment's decoy belongs to. It reads that file at
   every start, and sends it when its settings have lost the phantom: a warning, and nobody is frozen.
4. A flood is one incident for each process and decoy in REPEAT_S, PER_FAMILY_PER_MINUTE of one process's children, and
   PER_USER_PER_MINUTE of a user's; the next one says how many were left out. Each answer is no in any case.
"""

from collections import OrderedDict
from typing import TypeVar

from agent_broker.clock import Clock
from agent_broker.daemon.decoy_book import DecoyBook, KnownDecoy
from agent_broker.honeytoken.presented import pieces_of
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown, offenders
from agent_broker.issue import Caller
from agent_broker.monitor.detection import printable
from agent_broker.monitor.incident import NO_EPOCH, NO_TIER, SHOW, Incident, incident_now
from agent_broker.refusals import RaiseAlert

REPEAT_S = 10
PER_USER_PER_MINUTE = 120
PER_FAMILY_PER_MINUTE = 20
MAX_SEARCHED_TEXTS = 64
"""Of one request's arguments."""
_REMEMBERED = 4096
_SECOND_NS = 1_000_000_000
_NEXT_STEP = f"the first program in its lineage ({SHOW}) that you did not start has read the decoy: treat it as hostile"
_SETTINGS_STEP = "its settings have lost the phantom: sudo agent-broker unenroll AGENT, then enroll it again"


class DecoyUse:
    """Implements inject.endpoint.DecoyWatch. See the module."""

    def __init__(self, book: DecoyBook, raise_alert: RaiseAlert, clock: Clock) -> None:
        self._book = book
        self._raise_alert = raise_alert
        self._clock = clock
        self._told: OrderedDict[tuple[object, ...], int] = OrderedDict()
        self._windows: OrderedDict[tuple[object, ...], tuple[int, int]] = OrderedDict()
        self._left_out = 0

    def is_decoy(self, value: str) -> bool:
        """Whether the value is a decoy's."""
        return self._book.find(value) is not None

    def value_in(self, texts: tuple[str, ...]) -> str | None:
        """Return the first decoy's value among the parts of some texts; bounded."""
        pieces = (piece for text in texts[:MAX_SEARCHED_TEXTS] for piece in pieces_of(text))
        return next(filter(self.is_decoy, pieces), None)

    async def report_decoy_used(self, caller: Caller, channel: str, value: str) -> None:
        """Raise the alert, within the bounds.

        Raises:
            UnavailableError: the incident can't be stored.
        """
        decoy = self._book.find(value)
        if decoy is None:  # removed in this moment
            return
        verdict = await caller.attest()
        if isinstance(verdict, Unchanged):  # can't be: nothing was known yet
            verdict = Unknown("the monitor answered a question that was not asked")
        if not self._is_due(verdict, decoy):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        await self._raise_alert(self._incident(decoy, verdict, channel, left_out))

    def _is_due(self, verdict: Evidence | Unknown, decoy: KnownDecoy) -> bool:
        now_ns = self._clock.boot_ns()
        who = (verdict.uid, verdict.steps[0].proc_id if verdict.steps else None, decoy.path)
        last_ns = self._told.get(who)
        if last_ns is not None and now_ns - last_ns < REPEAT_S * _SECOND_NS:
            return False
        self._told[who] = now_ns
        _bound(self._told, who)
        parent = next((step.proc_id for step in verdict.steps if step.proc_id != verdict.steps[0].proc_id), None)
        if parent is not None and not self._has_room(("family", parent), PER_FAMILY_PER_MINUTE, now_ns):
            return False
        return self._has_room(("user", verdict.uid), PER_USER_PER_MINUTE, now_ns)

    def _has_room(self, who: tuple[object, ...], most: int, now_ns: int) -> bool:
        """Count one more in this minute of somebody's; return whether it may be told."""
        start_ns, count = self._windows.get(who, (now_ns, 0))
        if now_ns - start_ns > 60 * _SECOND_NS:
            start_ns, count = now_ns, 0
        self._windows[who] = (start_ns, count + 1)
        _bound(self._windows, who)
        return count < most

    def _incident(self, decoy: KnownDecoy, verdict: Evidence | Unknown, channel: str, left_out: int) -> Incident:
        principal = verdict.principal if isinstance(verdict, Evidence) else None
        is_own = _is_own(decoy, verdict)
        return incident_now(
            self._clock,
            kind="decoy-used",
            severity="warning" if is_own else "critical",
            what=_sentence(decoy, verdict, channel, left_out),
            tier=verdict.tier if isinstance(verdict, Evidence) else NO_TIER,
            action="refused",
            lineage=verdict.steps,
            path=decoy.path,
            agent=principal.agent if principal is not None else None,
            next_step=_SETTINGS_STEP.replace("AGENT", decoy.agent or "") if is_own else _NEXT_STEP,
            epoch=verdict.freshness.epoch if isinstance(verdict, Evidence) else NO_EPOCH,
            offenders=() if is_own else offenders(verdict.steps, principal),
            role="decoy",
            holds=decoy.kind,
        )


def _is_own(decoy: KnownDecoy, verdict: Evidence | Unknown) -> bool:
    if decoy.agent is None or not isinstance(verdict, Evidence) or verdict.taints or verdict.principal is None:
        return False
    principal = verdict.principal
    return principal.is_caller and (principal.agent, principal.owner_uid) == (decoy.agent, decoy.owner_uid)


def _sentence(decoy: KnownDecoy, verdict: Evidence | Unknown, channel: str, left_out: int) -> str:
    first = verdict.steps[0] if verdict.steps else None
    who = f"{printable(first.image.filename)} (pid {first.pid})" if first else "a process that can't be identified"
    sentence = f"{who} presented what the decoy {printable(decoy.path)} holds ({decoy.kind}), on {channel}; refused"
    if isinstance(verdict, Unknown):
        sentence += f"; its lineage is unknown: {printable(verdict.reason)}"
    return f"{sentence}; {left_out} uses before were not told one by one" if left_out else sentence


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _bound(remembered: OrderedDict[_Key, _Value], newest: _Key) -> None:
    remembered.move_to_end(newest)
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
