"""What happens after a no: the journal has it, a person gets one alert, a flood gets counted.

An attacker can be refused as often as it likes, so what it can write here is bounded: refusals of one line (of one
process, its children, its tool; monitor.lines) by one rule for one credential are one incident, journalled and told at
once, in full, and then as often as its count has grown and monitor.fold allows. One process that asks by ever new
children does not use up what there is room for of its user. The refusals themselves are not bounded: the answer stays
no.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from agent_broker.audit.journal import Journal
from agent_broker.clock import Clock
from agent_broker.errors import AgentBrokerError, RefusedError
from agent_broker.identity.evidence import Evidence, Unknown, offenders
from agent_broker.ids import AgentName, Epoch
from agent_broker.issue import INJECT, SIGN, VIEW, Ask
from agent_broker.monitor.fold import Folder, Seen
from agent_broker.monitor.incident import NO_TIER, SHOW, Incident, incident_now
from agent_broker.monitor.lines import line_of
from agent_broker.monitor.teller import Teller

RaiseAlert = Callable[[Incident], Awaitable[None]]
"""Stores an incident durably and does what its severity asks for."""

_REMEMBERED = 4096  # incidents whose journal entry is repeated with a count; more than can be open

_EXPECTED_RULES = frozenset({"policy", "frozen", "account"})
"""Refusals of a verified agent: journalled, but nobody needs to be woken for them. A tool's are told as information,
since what its client shows may say nothing of the broker, or of why (docker: "no basic auth credentials")."""

_KIND_OF_RULE = {"taint": "agent-tainted", "updated": "agent-updated"}

_STRANGER = "decoy-opened"
"""Kind of a refusal at a file's view: whoever is no reader of it."""
SERVED_RULE = "decoy"
"""Of a refusal at a file's view: it was served the decoy."""

_NEXT_STEP = f"look at its lineage ({SHOW}): the first program in it that you did not start is the intruder"


_LOG = logging.getLogger(__name__)


class RefusalLog:
    """See the module. Belongs to one event loop."""

    def __init__(self, journal: Journal, raise_alert: RaiseAlert, clock: Clock, folder: Folder | None = None) -> None:
        self._journal = journal
        self._raise_alert = raise_alert
        self._clock = clock
        self._teller = Teller(self._tell_later, clock, folder)
        self._bodies: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling = 0

    @property
    def in_work(self) -> int:
        """Refusals that are being journalled and told."""
        return self._telling + len(self._tasks)

    async def refused(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> None:
        """Journal one refusal and raise its alert, or count it with the ones before.

        Raises:
            UnavailableError: the journal can't be written. The caller's answer is no in any case.
        """
        kind, severity = _kind(ask, refusal), _severity(ask, refusal, verdict)
        deed = f"{refusal.rule} {ask.credential} {ask.mode}"
        seen = Seen(kind, _action(refusal), severity, _place(ask), self._clock.wall_ns(), deed)
        made: list[Incident] = []

        def make() -> Incident:
            made.append(self._incident(ask, refusal, verdict))
            return made[-1]

        incident_id = self._teller.add(line_of(verdict), seen, make)
        if incident_id is None:
            return
        self._bodies[incident_id] = {
            "rule": refusal.rule,
            "why": refusal.detail,
            "credential": ask.credential,
            "mode": ask.mode,
            "channel": ask.channel,
            "uid": verdict.uid,
            "lineage": [step.image.filename for step in verdict.steps],
            **({"to": "" if ask.to is None else str(ask.to)} if ask.tool else {}),
        }
        while len(self._bodies) > _REMEMBERED:
            self._bodies.popitem(last=False)
        told = self._teller.folder.tell(incident_id, self._clock.boot_ns(), made[-1])
        if told is not None:
            self._telling += 1
            try:
                await self._tell(told)
            finally:
                self._telling -= 1

    async def close(self) -> None:
        """Tell what was counted and not told."""
        self._teller.close()
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _tell_later(self, incident: Incident) -> None:
        task = asyncio.get_running_loop().create_task(self._tell_repeats(incident))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_repeats(self, incident: Incident) -> None:
        try:
            await self._tell(incident)
        except AgentBrokerError as error:  # its first telling was durable, and the next one has the count too
            _LOG.error("%s", error.explain())

    async def _tell(self, incident: Incident) -> None:
        body = self._bodies.get(incident.id, {})
        await self._journal.append("refusal", {**body, "incident": incident.id, "count": incident.count})
        if body.get("rule") not in _EXPECTED_RULES or "to" in body:
            await self._raise_alert(incident)

    def _incident(self, ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> Incident:
        principal = verdict.principal if isinstance(verdict, Evidence) else None
        kind = _kind(ask, refusal)
        return incident_now(
            self._clock,
            kind=kind,
            severity=_severity(ask, refusal, verdict),
            what=_sentence(kind, ask, verdict, refusal),
            tier=verdict.tier if isinstance(verdict, Evidence) else NO_TIER,
            action=_action(refusal),
            path=_place(ask),
            role="decoy" if kind == _STRANGER else "",
            lineage=verdict.steps,
            agent=principal.agent if principal is not None else AgentName(ask.credential.partition("/")[0]),
            next_step=refusal.next_step or _NEXT_STEP,
            epoch=verdict.freshness.epoch if isinstance(verdict, Evidence) else Epoch(""),
            offenders=offenders(verdict.steps, principal),
        )


def _place(ask: Ask) -> str:
    return ask.about if ask.mode == VIEW else ask.channel


def _action(refusal: RefusedError) -> str:
    return "served-decoy" if refusal.rule == SERVED_RULE else "refused"


def _kind(ask: Ask, refusal: RefusedError) -> str:
    if ask.mode == VIEW and refusal.rule not in _EXPECTED_RULES:
        return _STRANGER
    return _KIND_OF_RULE.get(refusal.rule, "phantom-replayed" if ask.mode == INJECT else "release-refused")


def _severity(ask: Ask, refusal: RefusedError, verdict: Evidence | Unknown) -> str:
    """Critical: somebody known uses what it stole, or an agent's tool reaches for the key. A user's own try is not."""
    if refusal.rule == "updated":
        return "warning"
    if ask.tool and refusal.rule in _EXPECTED_RULES:
        return "info"
    if isinstance(verdict, Unknown):
        return "critical" if verdict.hostile else "warning"
    if ask.tool and verdict.tool is not None and not verdict.tool.problem:
        return "warning"  # the tool itself, started in a way that can't be trusted: a setting more often than a thief
    return "critical" if ask.mode == INJECT or verdict.principal is not None else "warning"


def _sentence(kind: str, ask: Ask, verdict: Evidence | Unknown, refusal: RefusedError) -> str:
    who = verdict.steps[0].image.filename if verdict.steps else "a process that can't be identified"
    did = {
        "phantom-replayed": f"{who} presented the agent's phantom token",
        "release-refused": f"{who} asked for a {'signature' if ask.mode == SIGN else 'credential'}"
        + (f" for {ask.to}" if ask.to is not None else ""),
        _STRANGER: f"{who} is no reader of a viewed file",
        "agent-tainted": f"{who} asked for a credential with foreign code in it",
        "agent-updated": f"{who} asked for a credential in the place of an enrolled agent",
    }[kind]
    return f"{did}; refused: {refusal.message}"
