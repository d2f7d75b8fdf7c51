"""Somebody signalled, took hold of, or reached into the monitor or the broker: one incident, against who did it.

Root by its own doing is not told for signals (it stops services), and is ``info`` where it looked at our maps or
programs. Everybody else is ``critical``: an agent's sudo, or the broker's own user.
"""

import os
import signal
from collections.abc import Callable

from agent_broker.clock import Clock
from agent_broker.identity.evidence import Evidence, Principal, Unknown, Verdict, offenders
from agent_broker.ids import Epoch, Pid
from agent_broker.kernel import wire
from agent_broker.kernel.events import Denial
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Step
from agent_broker.lineage.text import plain
from agent_broker.monitor.detection import CRITICAL, DENIED, INFO, ONLY_SEEN, printable
from agent_broker.monitor.incident import SHOW, Incident, incident_now, new_incident
from agent_broker.monitor.tamper import Recaller

MAX_TOLD = 64  # of one monitor's life and one kind: a flood says nothing new
_LOOK = (
    f"look at its lineage ({SHOW}): the first program in it that you did not start is the intruder; "
    "then run agent-broker doctor"
)
_NOTHING = "nothing, if you looked at the kernel's BPF programs yourself"


class SelfReporter:
    """See the module. Called in the monitor's event loop, outside of the sensor's consume()."""

    def __init__(
        self, attestor: Recaller, publish: Callable[[Incident], None], clock: Clock, epoch: Epoch, tier: str
    ) -> None:
        self._attestor = attestor
        self._publish = publish
        self._clock = clock
        self._epoch = epoch
        self._tier = tier
        self._told: dict[tuple[int, int, int], int] = {}
        self._missed = False

    def report(self, event: Denial) -> None:
        """Publish an incident; one for each program and thing that it did, and no more than MAX_TOLD of a kind."""
        if self._is_new(event):
            steps, principal = self._actor(event)
            self._tell(event, steps, principal, "")

    def report_earlier(self, event: Denial) -> None:
        """The same for what happened before this monitor started: the numbers of processes say nothing here."""
        if self._is_new(event):
            self._tell(event, (), None, ", while nobody watched, or as the monitor's end")

    def missed(self, reason: str) -> None:
        """Publish that something was not told; once."""
        if self._missed:
            return
        self._missed = True
        self._publish(
            incident_now(
                self._clock,
                kind="monitor-tampered",
                severity=CRITICAL,
                what=f"what was done to the monitor or the broker is not wholly known: {reason}",
                tier=self._tier,
                action=ONLY_SEEN,
                next_step=_LOOK,
                epoch=self._epoch,
            )
        )

    def _is_new(self, event: Denial) -> bool:
        key = (event.exec_id, event.operation, event.pid)
        of_kind = sum(1 for _, operation, _ in self._told if operation == event.operation)
        if key in self._told or of_kind >= MAX_TOLD:
            return False
        self._told[key] = event.flags
        return True

    def _tell(self, event: Denial, steps: tuple[Step, ...], principal: Principal | None, when: str) -> None:
        program = steps[0].image.filename if steps else plain(event.command)
        denied = ": that was denied" if event.denied else ""
        severity = INFO if _is_a_look(event) else CRITICAL
        self._publish(
            new_incident(
                kind="monitor-tampered",
                time_ns=self._clock.wall_ns(),
                severity=severity,
                what=f"{printable(program)} (pid {event.pid}, uid {event.uid}) {_did(event)}{denied}{when}",
                tier=self._tier,
                action=DENIED if event.denied else ONLY_SEEN,
                lineage=steps,
                agent=principal.agent if principal else None,
                next_step=_NOTHING if severity == INFO else _LOOK,
                epoch=self._epoch,
                boot_ns=event.time_ns,
                offenders=offenders(steps, principal),
            )
        )

    def _actor(self, event: Denial) -> tuple[tuple[Step, ...], Principal | None]:
        if not event.proc_id:
            return (), None
        verdict: Verdict = self._attestor.recall(TaskRecord(event.proc_id, event.exec_id, 0))
        if isinstance(verdict, Evidence):
            return verdict.steps, verdict.principal
        return (verdict.steps if isinstance(verdict, Unknown) else ()), None


def _is_a_look(event: Denial) -> bool:
    return not event.denied and event.operation in {wire.OPERATION_MAP, wire.OPERATION_PROGRAM}


def decide_damage(what: str, clock: Clock, tier: str) -> Incident:
    """Return the incident of the monitor's own files that were not as it had left them."""
    return incident_now(
        clock,
        kind="monitor-tampered",
        severity=CRITICAL,
        what=f"{what}; incidents that no broker had stored may be missing",
        tier=tier,
        action=ONLY_SEEN,
        next_step="only root, or a failing disk, can do this: compare the file with agent-broker alerts --all",
    )


def _did(event: Denial) -> str:
    tried = "tried to " if event.denied else ""
    match event.operation:
        case wire.OPERATION_SIGNAL:
            verb = "send" if event.denied else "sent"
            return f"{tried}{verb} {_signal(event.flags)} to {_daemon(Pid(event.ino))}"
        case wire.OPERATION_HOLD:
            return f"{tried}take hold of {_daemon(Pid(event.ino))}"
        case _:
            what = "map" if event.operation == wire.OPERATION_MAP else "program"
            return f"{tried}{'open' if event.denied else 'opened'} {what} {event.ino} of the monitor in the kernel"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _daemon(pid: Pid) -> str:
    return f"the monitor (pid {pid})" if pid == os.getpid() else f"the daemon with pid {pid}"
