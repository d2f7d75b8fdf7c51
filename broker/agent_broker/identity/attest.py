"""The only door: from a pidfd to evidence.

In this order, and no step is skipped:
1. The kernel's record of the process is looked up by pidfd: its numbers now. No record, no evidence.
2. The ring is drained past these numbers (bounded), so the store has seen everything up to them.
3. The lineage is walked to its origin. A gap anywhere makes it unknown.
4. The nearest image that may be an enrolled agent's main process is searched: the enrolled file by the kernel's
   numbers, under an accepted name, executed by the process itself, of the owner.
5. Its file is what was enrolled: the hash of exactly these kernel numbers. A hash not taken yet is taken from the
   process's own executable, opened through /proc and compared with the kernel's numbers, when it is its lineage's
   turn (identity.look_turns).
6. The record is looked up again: other numbers than in step 1, and everything starts over; twice, and it is unknown.
7. The process still lives, as the user who executed its image: one that changed its user since is unknown.

What this does not do: it knows no credential, no policy and no protocol; it says who, not what they may.
"""

import asyncio

import msgspec

from agent_broker.identity.agent import AgentTable
from agent_broker.identity.connection import (
    Shared,
    only_holder,
    other_writer,
    pids_of,
    record_of,
    refusal,
    refuse_shared,
)
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown, Verdict
from agent_broker.identity.executable import HashCache
from agent_broker.identity.folder import folder_of
from agent_broker.identity.looks import Looks, Needs
from agent_broker.identity.mappings import Mappings
from agent_broker.identity.memory import Memory
from agent_broker.identity.principal import Found, PrincipalSearch, ScriptChecks
from agent_broker.identity.sockets import Sockets
from agent_broker.identity.tool import ToolJudge
from agent_broker.ids import Epoch, ProcId
from agent_broker.kernel.events import OpenFile
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.image import tampering
from agent_broker.lineage.record import Step
from agent_broker.lineage.store import Store

_DRAIN_TRIES = 50
_DRAIN_PAUSE_S = 0.001  # another CPU holds a reserved record that it has not committed; that takes microseconds
_SHARED_PAUSES_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""From fork to exec takes less than a millisecond, or as long as the scheduler keeps the child waiting."""
_LOOKS = 8  # each candidate of a lineage asks for a hash and a script at most, and few are agents
_RESTART = "restart the agent: it was started before the monitor"


class Attestor:
    """See the module. Runs in the monitor's event loop."""

    def __init__(  # noqa: PLR0913 - the parts of one process, named arguments only
        self,
        *,
        epoch: Epoch,
        tier: str,
        sensor: Sensor,
        store: Store,
        hashes: HashCache,
        scripts: ScriptChecks | None = None,
        packages: Distribution | None = None,
    ) -> None:
        self.epoch = epoch
        self.tier = tier
        self.hashes = hashes
        self.senders_known = False
        """Whether the kernel tells who writes on the broker's connections (Sensor.watch_endpoints)."""
        self._sensor = sensor
        self._store = store
        self._sockets = Sockets(sensor)
        self._tools = ToolJudge(packages or Distribution())
        self._looks = Looks(sensor, hashes, scripts, self._tools)
        self._search = PrincipalSearch(store, hashes, scripts)
        self._mappings = Mappings(sensor, scripts)
        self._memory = Memory(self._search, self._mappings, self._touches)

    @property
    def agents(self) -> AgentTable:
        """The enrolled agents."""
        return self._search.agents

    @agents.setter
    def agents(self, table: AgentTable) -> None:
        self._search.agents = table

    async def attest(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        """Return evidence of the process behind a pidfd, or why there is none.

        Args:
            pidfd: of the caller; stays the caller's to close.
            known: the freshness of evidence that is held already. If that still holds, and nobody on the way to its
                agent was touched since, Unchanged is the answer. Evidence of a tainted one is told again in full.
        """
        verdict = self.attest_now(pidfd, known)
        return await self._attest_waiting(pidfd, known) if verdict is None else verdict

    def attest_now(self, pidfd: int, known: Freshness | None = None) -> Verdict | None:
        """Return what attest would, if that takes no waiting; else None. About 10 us."""
        record = self._sensor.task_record(pidfd)
        if record is None:
            return Unknown("the process is gone, or was never seen by the monitor", _RESTART)
        if not self._has_arrived(record):
            return None
        unchanged = self._unchanged(pidfd, record, known)
        if unchanged is not None:
            return unchanged
        touches = self._touches()
        verdict = self._judge(record, touches)
        if isinstance(verdict, Needs) or not self._still(pidfd, record, touches):
            return None
        return self._settle(pidfd, record, verdict)

    def _unchanged(self, pidfd: int, record: TaskRecord, known: Freshness | None) -> Verdict | None:
        """Return that what is known still holds, or that the process's user changed; None: it must be judged anew."""
        if known is None or known != self._freshness(record) or not self._memory.still_holds(known, self.agents):
            return None
        return self._user_problem(pidfd, record) or Unchanged(known)

    async def attest_socket(self, inode: int, known: Freshness | None = None) -> Verdict:
        """Return evidence of the one process that holds a socket, or why there is none.

        A child holds its parent's sockets from its fork to its exec, so a socket of a process that starts tools is
        looked at again (bounded) until it has one holder.
        """
        verdict = self._attest_holder(inode, known)
        for pause_s in _SHARED_PAUSES_S:
            if isinstance(verdict, Shared):
                await asyncio.sleep(pause_s)
            elif verdict is None:
                problem = await self._wait_for_holder(inode)
                if problem is not None:
                    return problem
            else:
                return verdict
            verdict = self._attest_holder(inode, known)
        if isinstance(verdict, Shared):
            return refuse_shared(verdict, self._sensor, self.recall)
        return Unknown("the process changed while it was looked at") if verdict is None else verdict

    def attest_socket_now(self, inode: int, known: Freshness | None = None) -> Verdict | None:
        """Return what attest_socket would, if that takes no waiting; else None."""
        verdict = self._attest_holder(inode, known)
        return None if isinstance(verdict, Shared) else verdict

    def other_end_of(self, inode: int) -> int:
        """Return the inode number of the unix socket that is connected to this one; 0: none that anybody holds."""
        return self._sockets.other_end_of(inode)

    def parents_of(self, pidfd: int) -> tuple[ProcId, ...]:
        """Return a process and all it descends from, to tell whose turn it is; empty: not wholly known. About 10 us."""
        record = self._sensor.task_record(pidfd)
        self._sensor.consume()
        return () if record is None else self._store.ancestors(record.proc_id)

    def _attest_holder(self, inode: int, known: Freshness | None) -> "Verdict | Shared | None":
        """Look at a socket and its holder once; None: an event or a hash must be waited for.

        The pid that the kernel's tables name is only used to open a pidfd. A process whose number was given before the
        look at the tables had its pid all the while, so it is the holder. For a younger one the tables are read once
        more after the attestation, and it must still live then.
        """
        newest = self._store.newest
        last = None if known is None else self._store.image(known.exec_id)
        found = self._sockets.holders(inode, last.pid if last else 0)
        with only_holder(found) as pidfd:
            if isinstance(pidfd, Unknown | Shared):
                return pidfd
            verdict = self.attest_now(pidfd, known)
            if not isinstance(verdict, Evidence | Unchanged):
                return verdict
            problem = self._writer_problem(found, verdict)
            if problem or verdict.freshness.proc_id <= newest:
                return problem or verdict
            again = self._sensor.socket_holders(inode)
            record = self._sensor.task_record(pidfd) if pids_of(again) == pids_of(found) else None
            if record is None or self._freshness(record) != verdict.freshness:
                return Shared("the connection changed hands while it was looked at", pids_of(again))
            return self._writer_problem(again, verdict) or verdict

    def _writer_problem(self, found: tuple[OpenFile, ...], holder: Evidence | Unchanged) -> Unknown | None:
        """Return why not all that came on a connection was written by the program that holds it, or nothing."""
        if not self.senders_known:
            return None
        sender = found[0].sender
        if sender is None:
            who = holder if isinstance(holder, Evidence) else None
            return refusal("nobody was seen to write on the connection", who, next_step="open a new connection")
        other = other_writer(sender, holder.freshness)
        if other is None:
            return None
        reason = "another program than the one that holds the connection has written on it"
        return refusal(reason, self.recall(TaskRecord(*other, 0)), hostile=True)

    async def _wait_for_holder(self, inode: int) -> Unknown | None:
        """Wait for what is not known yet about the holder of a socket; return why that can't be known, or nothing."""
        with only_holder(self._sockets.holders(inode)) as pidfd:
            if isinstance(pidfd, Shared):
                return None
            verdict = pidfd if isinstance(pidfd, Unknown) else await self._attest_waiting(pidfd)
        return verdict if isinstance(verdict, Unknown) else None

    async def _attest_waiting(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        for _ in range(2):
            record = self._sensor.task_record(pidfd)
            if record is None:
                return Unknown("the process is gone, or was never seen by the monitor", _RESTART)
            if not await self._drain_past(record):
                return self._not_arrived(record)
            unchanged = self._unchanged(pidfd, record, known)
            if unchanged is not None:
                return unchanged
            touches = self._touches()
            verdict = await self._judge_looking(record, touches)
            if not isinstance(verdict, Needs) and self._still(pidfd, record, touches):
                return self._settle(pidfd, record, verdict)
        return Unknown("the process changed while it was looked at")

    async def _judge_looking(self, record: TaskRecord, touches: int) -> Evidence | Unknown | Needs:
        """Judge, and look at what that needs."""
        verdict = self._judge(record, touches)
        for _ in range(_LOOKS):
            if not isinstance(verdict, Needs):
                break
            evidence = verdict.evidence
            problem = await self._looks.look(verdict.needed, evidence.steps)
            if problem:
                return Unknown(problem, "restart the agent", evidence.uid, evidence.steps)
            verdict = self._judge(record, touches)
        return verdict

    def _touches(self) -> int:
        """Return a number that moves when anybody on any lineage is taken hold of, told or lost."""
        return self._store.tampered + self._sensor.losses().taint

    def _still(self, pidfd: int, record: TaskRecord, touches: int) -> bool:
        """Tell whether a process is what it was before it was judged, and nobody on its lineage was touched since."""
        return self._sensor.task_record(pidfd) == record and self._sensor.consume() and self._touches() == touches

    async def recheck(self, known: Freshness) -> Verdict:
        """Return Unchanged if the process of some evidence still lives, untouched, and runs the attested image.

        By numbers alone: after the ring was drained the store has seen every exec and exit that happened before the
        question, since their events are committed before the new image, or the parent, goes on. Once events were lost
        that is no longer so, and the answer is Unknown: attest again.
        """
        for _ in range(_DRAIN_TRIES):
            verdict = self.recheck_now(known)
            if verdict is not None:
                return verdict
            await asyncio.sleep(_DRAIN_PAUSE_S)
        return Unknown("the kernel's events have not arrived")

    def recheck_now(self, known: Freshness) -> Verdict | None:
        """Return what recheck would, if that takes no waiting; None: another CPU has not committed its event yet."""
        if not self._sensor.consume():
            return None
        if self._sensor.losses().total:
            return Unknown("kernel events were lost")
        if known.epoch != self.epoch or not self._store.runs(known.proc_id, known.exec_id):
            return Unknown("the process ended, or changed")
        if known.taints != self._store.taints_of(known.proc_id, known.exec_id):
            return Unknown("another process took hold of it")
        return Unchanged(known)

    def confirm(self, pidfd: int, known: Freshness) -> Verdict:
        """Return Unchanged if the process behind a pidfd lives, untouched, and runs the image that some evidence said.

        By the kernel's own record of it, which is written before the new image, or who took hold of it, goes on: no
        event is needed, so one that was lost is no matter. Nothing looks into the process. About 5 us.
        """
        record = self._sensor.task_record(pidfd)
        if record is None or self._freshness(record) != known:
            return Unknown("the process ended, or changed, or another process took hold of it")
        return self._user_problem(pidfd, record) or Unchanged(known)

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        """Return the kernel's numbers of a process now, for ``recall`` later; None: it has none. About 2 us."""
        return self._sensor.task_record(pidfd)

    def recall(self, record: TaskRecord) -> Evidence | Unknown:
        """Return what is known of a program image by its numbers, whether it still runs or not.

        Neither waits nor hashes: an enrolled file whose hash was not taken yet makes the answer Unknown.
        """
        if not self._has_arrived(record):
            return self._not_arrived(record)
        verdict = self._judge(record, self._touches())
        return verdict.not_yet() if isinstance(verdict, Needs) else verdict

    async def recall_looking(self, record: TaskRecord) -> Evidence | Unknown:
        """Return the same once it was looked at, in the turn of its lineage (identity.look_turns)."""
        if not await self._drain_past(record):
            return self._not_arrived(record)
        verdict = await self._judge_looking(record, self._touches())
        return verdict.not_yet() if isinstance(verdict, Needs) else verdict

    def describe(self, pid: int) -> tuple[tuple[Step, ...], str]:
        """Return the recorded lineage of a live process for display, and why it is incomplete (or nothing)."""
        record = record_of(self._sensor, pid)
        if record is None:
            return (), f"process {pid} has no record, or is gone"
        self._sensor.consume()
        lineage = self._store.lineage(record.proc_id, record.exec_id)
        return lineage.steps, lineage.gap

    def _settle(self, pidfd: int, record: TaskRecord, verdict: Evidence | Unknown) -> Verdict:
        """Return the verdict, unless the process's user changed; from now on nobody takes hold of an agent (LSM)."""
        agent = verdict.principal if isinstance(verdict, Evidence) else None
        if not isinstance(verdict, Evidence) or agent is None or not agent.is_caller:
            return self._user_problem(pidfd, record) or verdict
        if self.agents.needs_folder(agent.agent, agent.owner_uid):
            verdict = msgspec.structs.replace(verdict, folder=folder_of(verdict.caller.pid))
        problem = self._user_problem(pidfd, record)  # it lives, so the folder was this process's
        if problem is None:
            self._sensor.guard(pidfd)
            if not verdict.taints:
                self._sensor.let_through(pidfd, agent.agent, verdict.uid)
        return problem or verdict

    def _user_problem(self, pidfd: int, record: TaskRecord) -> Unknown | None:
        """Return why the process is not, now, what its image says of its user, or nothing."""
        uid = self._sensor.real_uid(pidfd)
        if uid is None:
            return Unknown("the process has ended")
        image = self._store.image(record.exec_id)
        if image is None or image.uid == uid:
            return None
        steps = self._store.lineage(record.proc_id, record.exec_id).steps
        return Unknown(f"the process was started by user {image.uid} and runs as user {uid} now", uid=uid, steps=steps)

    def _has_arrived(self, record: TaskRecord) -> bool:
        """Drain the ring; tell whether the process is known, and nothing about others is on its way."""
        return self._sensor.consume() and self._store.knows(record.proc_id, record.exec_id)

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

    def _judge(self, record: TaskRecord, touches: int) -> Evidence | Unknown | Needs:
        lineage = self._store.lineage(record.proc_id, record.exec_id)
        if lineage.gap:
            return Unknown(f"the lineage is incomplete: {lineage.gap}", _RESTART, steps=lineage.steps)
        caller = lineage.steps[0].image
        if not caller.observed and self.agents.is_enrolled_file(caller):
            return Unknown("the agent's exec was not observed", _RESTART, caller.uid, lineage.steps)
        found = self._search.find(lineage.steps)
        if found.unseen:
            return Unknown(
                "the agent was started before it was enrolled", "restart the agent", caller.uid, lineage.steps
            )
        if found.principal is not None and not found.principal.is_caller and self._sensor.losses().taint:
            return Unknown("what was done to the agent is not known: kernel events were lost", _RESTART, caller.uid)
        later = self._found_later(record, found)
        tool, needed = self._tools.judge(lineage.steps, found)
        evidence = Evidence(
            freshness=self._freshness(record),
            uid=caller.uid,
            steps=lineage.steps,
            principal=found.principal,
            taints=(*found.taints, *later),
            tier=self.tier,
            is_updated=found.is_updated and not later,
            tool=tool,
        )
        if needed is not None:
            return Needs(evidence, needed)
        self._memory.remember(evidence, found, self.agents, touches)
        return evidence

    def _found_later(self, record: TaskRecord, found: Found) -> tuple[str, ...]:
        """Return what happened to the principal, or to the caller, after its exec and is not in the lineage yet."""
        told = self._store.taints_of(record.proc_id, record.exec_id)
        sentences = [] if told == record.taints else list(tampering(record.taints))
        return (*sentences, *self._mappings.problems_of(found))

    def _freshness(self, record: TaskRecord) -> Freshness:
        return Freshness(self.epoch, record.proc_id, record.exec_id, record.taints)
