"""The only door: from a pidfd to evidence.

In this order, and no step is skipped:
1. The kernel's record of the process is looked up by pidfd: its numbers now. No record, no evidence.
2. The ring is drained past these numbers (bounded), so the store has seen everything up to them.
3. The lineage is walked to its origin. A gap anywhere makes it unknown.
4. The nearest image that may be an enrolled agent's main process is searched: the enrolled file by the kernel's
   numbers, under an accepted name, executed by the process itself, of the owner.
5. Its file is what was enrolled: the hash of exactly these kernel numbers. A hash not taken yet is taken from the
   process's own executable, opened through /proc and compared with the kernel's numbers.
6. The record is looked up again: other numbers than in step 1, and everything starts over; twice, and it is unknown.

What this does not do: it knows no credential, no policy and no protocol; it says who, not what they may.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.evidence import Evidence, Freshness, Principal, Unchanged, Unknown, Verdict
from agent_broker.identity.executable import HashCache
from agent_broker.ids import Epoch, Sha256
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.image import own_image
from agent_broker.lineage.record import Image, Step
from agent_broker.lineage.store import Store

_DRAIN_TRIES = 50
_DRAIN_PAUSE_S = 0.001  # another CPU holds a reserved record that it has not committed; that takes microseconds
_SHARED_PAUSES_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""From fork to exec takes less than a millisecond, or as long as the scheduler keeps the child waiting."""
_RESTART = "restart the agent: it was started before the monitor"


class Attestor:
    """See the module. Runs in the monitor's event loop."""

    def __init__(self, *, epoch: Epoch, tier: str, sensor: Sensor, store: Store, hashes: HashCache) -> None:
        self.epoch = epoch
        self.tier = tier
        self.agents = AgentTable()
        self.hashes = hashes
        self._sensor = sensor
        self._store = store

    async def attest(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        """Return evidence of the process behind a pidfd, or why there is none.

        Args:
            pidfd: of the caller; stays the caller's to close.
            known: the freshness of evidence that is held already: if nothing changed, Unchanged is the answer.
        """
        verdict = self.attest_now(pidfd, known)
        return await self._attest_waiting(pidfd) if verdict is None else verdict

    def attest_now(self, pidfd: int, known: Freshness | None = None) -> Verdict | None:
        """Return what attest would, if that takes no waiting; else None. About 10 us."""
        record = self._sensor.task_record(pidfd)
        if record is None:
            return Unknown("the process is gone, or was never seen by the monitor", _RESTART)
        if known is not None and known == self._freshness(record):
            return Unchanged(known)
        if not self._has_arrived(record):
            return None
        verdict = self._judge(record)
        return None if isinstance(verdict, _NeedsHash) or self._sensor.task_record(pidfd) != record else verdict

    async def attest_socket(self, inode: int, known: Freshness | None = None) -> Verdict:
        """Return evidence of the one process that holds a socket, or why there is none.

        A child holds its parent's sockets from its fork to its exec, so a socket of a process that starts tools is
        looked at again (bounded) until it has one holder.
        """
        verdict = self._attest_holder(inode, known)
        for pause_s in _SHARED_PAUSES_S:
            if isinstance(verdict, _Shared):
                await asyncio.sleep(pause_s)
            elif verdict is None:
                problem = await self._wait_for_holder(inode)
                if problem is not None:
                    return problem
            else:
                return verdict
            verdict = self._attest_holder(inode, known)
        if isinstance(verdict, _Shared):
            return verdict.unknown
        return Unknown("the process changed while it was looked at") if verdict is None else verdict

    def attest_socket_now(self, inode: int, known: Freshness | None = None) -> Verdict | None:
        """Return what attest_socket would, if that takes no waiting; else None."""
        verdict = self._attest_holder(inode, known)
        return None if isinstance(verdict, _Shared) else verdict

    def _attest_holder(self, inode: int, known: Freshness | None) -> "Verdict | _Shared | None":
        """Look at a socket and its holder once; None: an event or a hash must be waited for.

        The pid that the kernel's tables name is only used to open a pidfd. If the record behind it is ``known``, the
        process is older than the look at the tables, so it is the holder. Else the tables are read once more after
        the attestation, and the process must still live then: its number was its own all the time.
        """
        holders = self._holders(inode)
        with _only_holder(holders) as pidfd:
            if isinstance(pidfd, Unknown | _Shared):
                return pidfd
            verdict = self.attest_now(pidfd, known)
            if not isinstance(verdict, Evidence):
                return verdict
            record = self._sensor.task_record(pidfd) if self._holders(inode) == holders else None
            if record is None or self._freshness(record) != verdict.freshness:
                return _Shared(Unknown("the connection changed hands while it was looked at"))
            return verdict

    async def _wait_for_holder(self, inode: int) -> Unknown | None:
        """Wait for what is not known yet about the holder of a socket; return why that can't be known, or nothing."""
        with _only_holder(self._holders(inode)) as pidfd:
            if isinstance(pidfd, _Shared):
                return None
            verdict = pidfd if isinstance(pidfd, Unknown) else await self._attest_waiting(pidfd)
        return verdict if isinstance(verdict, Unknown) else None

    async def _attest_waiting(self, pidfd: int) -> Verdict:
        for _ in range(2):
            record = self._sensor.task_record(pidfd)
            if record is None:
                return Unknown("the process is gone, or was never seen by the monitor", _RESTART)
            if not await self._drain_past(record):
                return self._not_arrived(record)
            verdict = self._judge(record)
            if isinstance(verdict, _NeedsHash):
                problem = await self._hash(verdict.image)
                if problem:
                    return Unknown(problem, "restart the agent", verdict.evidence.uid, verdict.evidence.steps)
                verdict = self._judge(record)
            if self._sensor.task_record(pidfd) == record and not isinstance(verdict, _NeedsHash):
                return verdict
        return Unknown("the process changed while it was looked at")

    def _holders(self, inode: int) -> set[int]:
        return {each.pid for each in self._sensor.socket_holders(inode)}

    def recheck(self, known: Freshness) -> Verdict:
        """Return Unchanged if the process of some evidence still lives and runs the image that was attested.

        By numbers alone: after the ring was drained the store has seen every exec and exit that happened before the
        question, since their events are committed before the new image, or the parent, goes on. Once events were lost
        that is no longer so, and the answer is Unknown: attest again.
        """
        self._sensor.consume()
        if self._sensor.losses().total:
            return Unknown("kernel events were lost")
        if known.epoch == self.epoch and self._store.runs(known.proc_id, known.exec_id):
            return Unchanged(known)
        return Unknown("the process ended, or changed")

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        """Return the kernel's numbers of a process now, for ``recall`` later; None: it has none. About 2 us."""
        return self._sensor.task_record(pidfd)

    def recall(self, record: TaskRecord) -> Verdict:
        """Return what is known of a program image by its numbers, whether it still runs or not.

        Neither waits nor hashes: an enrolled file whose hash was not taken yet makes the answer Unknown.
        """
        if not self._has_arrived(record):
            return self._not_arrived(record)
        verdict = self._judge(record)
        if isinstance(verdict, _NeedsHash):
            evidence = verdict.evidence
            return Unknown("the enrolled file was not hashed yet", uid=evidence.uid, steps=evidence.steps)
        return verdict

    def describe(self, pid: int) -> tuple[tuple[Step, ...], str]:
        """Return the recorded lineage of a live process for display, and why it is incomplete (or nothing)."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            return (), f"process {pid}: {error.strerror}"
        try:
            record = self._sensor.task_record(pidfd)
        finally:
            os.close(pidfd)
        if record is None:
            return (), f"process {pid} has no record"
        self._sensor.consume()
        lineage = self._store.lineage(record.proc_id, record.exec_id)
        return lineage.steps, lineage.gap

    def _has_arrived(self, record: TaskRecord) -> bool:
        if not self._store.knows(record.proc_id, record.exec_id):
            self._sensor.consume()
        return self._store.knows(record.proc_id, record.exec_id)

    async def _drain_past(self, record: TaskRecord) -> bool:
        for _ in range(_DRAIN_TRIES):
            if self._has_arrived(record):
                return True
            await asyncio.sleep(_DRAIN_PAUSE_S)
        return False

    def _not_arrived(self, record: TaskRecord) -> Unknown:
        lost = self._sensor.losses().total
        why = f"{lost} kernel events were lost" if lost else "the kernel's events have not arrived"
        lineage = self._store.lineage(record.proc_id, record.exec_id)
        return Unknown(f"the lineage is incomplete: {why}", "start the program again", steps=lineage.steps)

    def _judge(self, record: TaskRecord) -> "Evidence | Unknown | _NeedsHash":
        lineage = self._store.lineage(record.proc_id, record.exec_id)
        if lineage.gap:
            return Unknown(f"the lineage is incomplete: {lineage.gap}", _RESTART, steps=lineage.steps)
        caller = lineage.steps[0].image
        if not caller.observed and self.agents.is_enrolled_file(caller):
            return Unknown("the agent's exec was not observed", _RESTART, caller.uid, lineage.steps)
        principal, taints, needed = self._find_principal(lineage.steps)
        evidence = Evidence(
            freshness=self._freshness(record),
            uid=caller.uid,
            steps=lineage.steps,
            principal=principal,
            taints=taints,
            tier=self.tier,
        )
        return evidence if needed is None else _NeedsHash(evidence, needed)

    def _find_principal(self, steps: tuple[Step, ...]) -> tuple[Principal | None, tuple[str, ...], Image | None]:
        """Walk up to the nearest main process of an enrolled agent; collect taints on the way, its own included."""
        taints: list[str] = []
        depth = 0
        uid = steps[0].image.uid
        for step in steps:
            depth += step.relation == "fork"
            taints += [f"{step.image.argv0 or step.image.filename}: {taint}" for taint in step.image.taints]
            # relation "exec": an earlier image of the same process is history, not an agent
            if step.relation == "exec" or not own_image(step.image, step.proc_id) or not step.image.observed:
                continue
            candidate = self.agents.candidate(step.image, uid)
            if candidate is None:
                continue
            sha256 = self.hashes.get(step.image.file)
            if sha256 is None:
                return None, tuple(taints), step.image
            if sha256 == candidate.binary.sha256:
                return self._principal(step, candidate, sha256, depth), tuple(taints), None
        return None, tuple(taints), None

    def _principal(self, step: Step, known: KnownFile, sha256: Sha256, depth: int) -> Principal:
        return Principal(
            agent=known.enrollment.agent,
            owner_uid=known.enrollment.owner_uid,
            proc_id=step.proc_id,
            exec_id=step.image.exec_id,
            sha256=sha256,
            is_caller=depth == 0,
            depth=depth,
        )

    async def _hash(self, image: Image) -> str:
        """Take the hash of a running image's file; return why it can't be taken, or nothing."""
        try:
            fd = os.open(f"/proc/{image.pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return f"the executable of process {image.pid} can't be read ({error.strerror})"
        try:
            # Equal kernel numbers name the same unchanged bytes, whoever the pid belongs to by now.
            if self._sensor.own_file(fd).file != image.file:
                return "the executable changed after it was started"
            await self.hashes.hash_fd(fd, image.file)
        except (AgentBrokerError, OSError) as error:
            return f"the executable can't be hashed: {error}"
        finally:
            os.close(fd)
        return ""

    def _freshness(self, record: TaskRecord) -> Freshness:
        return Freshness(self.epoch, record.proc_id, record.exec_id, record.taint_generation)


class _NeedsHash(Struct, frozen=True):
    """An answer that waits for the hash of one image's file."""

    evidence: Evidence
    image: Image


class _Shared(Struct, frozen=True):
    """A socket that more than one process holds, or held a moment ago; may pass by itself."""

    unknown: Unknown


@contextmanager
def _only_holder(holders: set[int]) -> Iterator[int | Unknown | _Shared]:
    """Give a pidfd of the one process among the holders of a socket, closed in the end; or why there is none."""
    if not holders:
        yield Unknown("nobody holds the connection, and exactly one process must")
        return
    if len(holders) > 1:
        yield _Shared(Unknown(f"{len(holders)} processes hold the connection, and exactly one process must"))
        return
    try:
        pidfd = os.pidfd_open(next(iter(holders)))
    except OSError as error:
        yield Unknown(f"the process that held the connection is gone ({error.strerror})")
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)
