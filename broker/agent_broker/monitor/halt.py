"""SIGSTOP for the offender of a critical incident, if the operator wants that; and SIGCONT when it is thawed.

The law:
1. Who is stopped is decided by the kernel's number of the process, never by its pid: the pid of the incident is opened
   as a pidfd, and the process behind it must have the offender's number. That number is never given twice.
2. Never: pid 1, this process and the broker, whoever runs as root, and an enrolled agent's main process (unless the
   operator asks for that too). Only the offender itself, not what started it.
3. An incident stops its offender once: a later revision of it says so again, and stops nobody who was thawed meanwhile.
4. Only a process that was stopped here is continued here. After a restart of the monitor nobody is known any more:
   ``kill -CONT`` does it then.

It stops a process that goes on; it takes back nothing. Whoever may signal the process (its own user) may continue it.
"""

import logging
import os
import signal
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from msgspec import structs

from agent_broker.identity.evidence import Evidence, Verdict
from agent_broker.ids import Epoch, ProcId, Uid
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.process import real_uid
from agent_broker.monitor.incident import Incident

_MAX_STOPPED = 256
_REMEMBERED = 4096  # incidents that stopped somebody; more than can be open
_INIT = 1

_log = logging.getLogger(__name__)


class AttestorPort(Protocol):
    """What is asked of identity.attest.Attestor."""

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        """See Attestor."""
        ...

    def recall(self, record: TaskRecord) -> Verdict:
        """See Attestor."""
        ...


class Stopping(NamedTuple):
    """Whom the operator wants stopped."""

    on: bool = False
    """Offenders at all."""
    agents: bool = False
    """Also agents' main processes."""
    spared: Uid = Uid(0)
    """The broker's user."""


class Halt:
    """See the module. Lives in the monitor's event loop."""

    def __init__(self, attestor: AttestorPort, epoch: Epoch, stopping: Stopping) -> None:
        """Stop nobody yet; ``epoch`` is that of the attestor's numbers."""
        self._attestor = attestor
        self._epoch = epoch
        self._wanted = stopping
        self._stopped: OrderedDict[ProcId, int] = OrderedDict()
        """Pidfds of the processes that were stopped here."""
        self._done: OrderedDict[str, tuple[ProcId, str]] = OrderedDict()
        """Of each incident that stopped somebody: whom, and what was said."""

    def respond(self, incident: Incident) -> Incident:
        """Stop the offender of a critical incident; return the incident with what was done, or why it was not."""
        if not self._wanted.on or incident.severity != "critical" or not incident.offenders or not incident.lineage:
            return incident
        if incident.epoch != self._epoch or incident.lineage[0].proc_id != incident.offenders[0]:
            return incident
        offender = incident.offenders[0]
        whom, said = self._done.get(incident.id, (None, ""))
        if whom != offender:
            said = self._stop(incident.lineage[0].pid, offender)
            if offender in self._stopped:
                self._remember(incident.id, offender, said)
        elif offender in self._stopped:  # it may have been continued by somebody else
            _signal(self._stopped[offender], signal.SIGSTOP)
        return structs.replace(incident, response=said)

    def let_go_on(self, epoch: Epoch, proc_ids: Iterable[ProcId]) -> int:
        """Continue those of these processes that were stopped here; return how many."""
        count = 0
        for proc_id in proc_ids if epoch == self._epoch else ():
            pidfd = self._stopped.pop(proc_id, -1)
            if pidfd >= 0:
                count += _signal(pidfd, signal.SIGCONT) == ""
                os.close(pidfd)
        return count

    def close(self) -> None:
        """Let go of the processes; they stay as they are."""
        while self._stopped:
            os.close(self._stopped.popitem()[1])

    def _remember(self, incident_id: str, offender: ProcId, said: str) -> None:
        self._done[incident_id] = (offender, said)
        self._done.move_to_end(incident_id)
        while len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)

    def _stop(self, pid: int, proc_id: ProcId) -> str:
        if proc_id in self._stopped:
            problem = _signal(self._stopped[proc_id], signal.SIGSTOP)
            return f"not stopped: process {pid} {problem}" if problem else f"stopped: process {pid} (SIGSTOP), before"
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return f"not stopped: process {pid} has ended"
        problem = self._problem(pid, pidfd, proc_id) or _signal(pidfd, signal.SIGSTOP)
        if problem:
            os.close(pidfd)
            return f"not stopped: process {pid} {problem}"
        self._stopped[proc_id] = pidfd
        while len(self._stopped) > _MAX_STOPPED:  # forgotten, and still stopped
            os.close(self._stopped.popitem(last=False)[1])
        return f"stopped: process {pid} (SIGSTOP)"

    def _problem(self, pid: int, pidfd: int, proc_id: ProcId) -> str:
        """Return why a process may not be stopped, or nothing."""
        record, uid = self._attestor.snapshot(pidfd), real_uid(pidfd)
        if record is None or record.proc_id != proc_id or uid is None:
            return "has ended"
        if pid in {_INIT, os.getpid()} or uid in {0, self._wanted.spared}:
            return "is root's, or the broker's"
        verdict = self._attestor.recall(record)
        if not isinstance(verdict, Evidence):
            return "can't be told from an agent"
        principal = verdict.principal
        if principal is not None and principal.is_caller and not self._wanted.agents:
            return f"is the agent {principal.agent} itself"
        return ""


def _signal(pidfd: int, number: signal.Signals) -> str:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError as error:
        _log.warning("a process could not be sent %s: %s", number.name, error)
        return f"could not be signalled: {error.strerror}"
    return ""
