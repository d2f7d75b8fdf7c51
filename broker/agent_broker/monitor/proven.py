"""The attestor as others see it: it knows nobody while the kernel side is not proven to report (monitor.heartbeat).

Whoever asks gets Unknown with the reason, never a verdict that was made from a record which may be old. A question is
answered at once while the proof is fresh; else it waits for one beat.
"""

from agent_broker.identity.attest import Attestor
from agent_broker.identity.evidence import Freshness, Unknown, Verdict
from agent_broker.ids import ProcId
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Step
from agent_broker.monitor.heartbeat import Heartbeat

_NEXT = "agent-broker doctor says more; restart the monitor, then the agents"


class ProvenAttestor:
    """See the module; the methods are those of identity.attest.Attestor."""

    def __init__(self, attestor: Attestor, heartbeat: Heartbeat) -> None:
        self._attestor = attestor
        self._heartbeat = heartbeat

    def attest_now(self, pidfd: int, known: Freshness | None = None) -> Verdict | None:
        """See Attestor; None also if a beat must be waited for."""
        return self._attestor.attest_now(pidfd, known) if self._heartbeat.is_fresh else None

    def attest_socket_now(self, inode: int, known: Freshness | None = None) -> Verdict | None:
        """See Attestor; None also if a beat must be waited for."""
        return self._attestor.attest_socket_now(inode, known) if self._heartbeat.is_fresh else None

    async def attest(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        """See Attestor."""
        problem = await self._heartbeat.prove()
        return _unknown(problem) if problem else await self._attestor.attest(pidfd, known)

    async def attest_socket(self, inode: int, known: Freshness | None = None) -> Verdict:
        """See Attestor."""
        problem = await self._heartbeat.prove()
        return _unknown(problem) if problem else await self._attestor.attest_socket(inode, known)

    def other_end_of(self, inode: int) -> int:
        """See Attestor. The kernel's present tables, whatever became of its events."""
        return self._attestor.other_end_of(inode)

    def parents_of(self, pidfd: int) -> tuple[ProcId, ...]:
        """See Attestor. For the order in which questions are heard, whatever became of the events."""
        return self._attestor.parents_of(pidfd)

    def recheck_now(self, known: Freshness) -> Verdict | None:
        """See Attestor; None also if a beat must be waited for."""
        return self._attestor.recheck_now(known) if self._heartbeat.is_fresh else None

    async def recheck(self, known: Freshness) -> Verdict:
        """See Attestor."""
        problem = await self._heartbeat.prove()
        return _unknown(problem) if problem else await self._attestor.recheck(known)

    def confirm_now(self, pidfd: int, known: Freshness) -> Verdict | None:
        """See Attestor.confirm; None: a beat must be waited for."""
        return self._attestor.confirm(pidfd, known) if self._heartbeat.is_fresh else None

    async def confirm(self, pidfd: int, known: Freshness) -> Verdict:
        """See Attestor."""
        problem = await self._heartbeat.prove()
        return _unknown(problem) if problem else self._attestor.confirm(pidfd, known)

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        """See Attestor."""
        return self._attestor.snapshot(pidfd)

    def recall(self, record: TaskRecord) -> Verdict:
        """See Attestor. It says who has done something already, and releases nothing: a late beat is no matter."""
        verdict = self._attestor.recall(record)
        if not self._heartbeat.blind:
            return verdict
        return Unknown(self._heartbeat.blind, _NEXT, verdict.uid, verdict.steps)

    def describe(self, pid: int) -> tuple[tuple[Step, ...], str]:
        """See Attestor."""
        steps, gap = self._attestor.describe(pid)
        return steps, self._heartbeat.blind or gap


def _unknown(problem: str) -> Unknown:
    return Unknown(problem, _NEXT)
