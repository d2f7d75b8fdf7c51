"""Somebody took hold of an agent's process (ptrace, a write to its memory): one incident, against who did it.

The kernel side marked the process before the offender went on, so nothing is released to it any more; here it becomes
known to a person. Processes that run an enrolled file and are not an agent's main process (any node, any ``rg`` of
Claude's) are marked all the same, and nobody is woken for them. Which it is may take a look: an agent that has asked
for nothing yet was not looked at, nor one whose package was written to since. It need not live any more for that.
Nobody looks at the offender, who could be slow to look at.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from agent_broker.clock import Clock
from agent_broker.identity.evidence import Evidence, Principal, Verdict, offenders, steps_of
from agent_broker.ids import Epoch
from agent_broker.kernel import wire
from agent_broker.kernel.events import Taint
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.image import tampering
from agent_broker.lineage.record import Step
from agent_broker.monitor.details import details_of
from agent_broker.monitor.incident import SHOW, Incident, incident_now

_DENIED_STEP = f"look at its lineage ({SHOW}): the first program in it that you did not start is the intruder"
_NEXT_STEP = f"restart the agent; {_DENIED_STEP}"


class Recaller(Protocol):
    """Who knows programs by their numbers (identity.attest.Attestor)."""

    def recall(self, record: TaskRecord) -> Verdict:
        """See Attestor."""
        ...

    async def recall_looking(self, record: TaskRecord) -> Verdict:
        """See Attestor."""
        ...


def _what(event: Taint, steps: tuple[Step, ...], agent: str) -> str:
    if event.actor_proc_id == event.proc_id:
        return f"{agent}: {' and '.join(tampering(event.taint))}; it gets nothing any more"
    who = steps[0].image.filename if steps else f"process {event.actor_pid}, which can't be identified,"
    if event.taint == wire.TAINT_DENIED:
        return f"{who} tried to take hold of {agent}: that was denied"
    return f"{who} took hold of {agent}: {' and '.join(tampering(event.taint))}; it gets nothing any more"


class TamperReporter:
    """See the module. Lives in the monitor's event loop."""

    def __init__(self, attestor: Recaller, publish: Callable[[Incident], None], clock: Clock, epoch: Epoch) -> None:
        self._attestor = attestor
        self._publish = publish
        self._clock = clock
        self._epoch = epoch
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, event: Taint) -> None:
        """Publish an incident soon if the victim is an agent's main process; may be called amid the sensor's events."""
        task = asyncio.get_running_loop().create_task(self._report(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def in_work(self) -> int:
        """How many are not published yet, or nothing to be told."""
        return len(self._tasks)

    async def close(self) -> None:
        """Publish what was reported."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _report(self, event: Taint) -> None:
        victim: Verdict | None = None
        with details_of("a process that somebody took hold of"):
            victim = await self._attestor.recall_looking(TaskRecord(event.proc_id, event.exec_id, event.taint))
        if not isinstance(victim, Evidence) or victim.principal is None or not victim.principal.is_caller:
            return
        steps, principal = self._actor(event)
        agent = victim.principal.agent
        denied = event.taint == wire.TAINT_DENIED
        by_others = offenders(steps, principal) if event.actor_proc_id != event.proc_id else ()
        self._publish(
            incident_now(
                self._clock,
                kind="agent-tampered",
                severity="critical",
                what=_what(event, steps, f"{agent} (process {victim.caller.pid})"),
                tier=victim.tier,
                action="denied" if denied else "only-seen",
                lineage=steps,
                agent=agent,
                next_step=_DENIED_STEP if denied else _NEXT_STEP,
                epoch=self._epoch,
                offenders=by_others if denied else (*by_others, event.proc_id),
            )
        )

    def _actor(self, event: Taint) -> tuple[tuple[Step, ...], Principal | None]:
        if event.actor_proc_id == 0:
            return (), None
        actor = self._attestor.recall(TaskRecord(event.actor_proc_id, event.actor_exec_id, 0))
        return steps_of(actor), actor.principal if isinstance(actor, Evidence) else None
