"""A small world of processes in the shape of the attestor: they fork, exec, end; some are enrolled agents.

It answers by pid, which it reads from the pidfd (``/proc/self/fdinfo``), so real processes can be given any past:

    world = World()
    shell = world.process(pid, "/bin/bash", uid=1000)
    claude = world.fork(shell, pid2); world.execute(claude, "/opt/claude", agent="claude")

Processes that were not introduced are unknown, or strangers read from /proc if ``strangers`` is set.
"""

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

from agent_broker.identity.evidence import Evidence, Freshness, Principal, Unchanged, Unknown, Verdict
from agent_broker.ids import AgentName, Epoch, ExecId, Pid, ProcId, Sha256, Uid
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Image, Step
from agent_broker.monitor.fingerprint import facts_by_stat

NO_FILE = FileFacts(0, 0, 0, 0, 0, 0, 0, Uid(0), 1, 0)


@dataclass(eq=False)
class Process:
    proc_id: ProcId
    pid: int
    uid: int
    parent: "Process | None"
    images: list[Image] = field(default_factory=list)
    agents: dict[ExecId, str] = field(default_factory=dict)
    taints: int = 0

    @property
    def image(self) -> Image:
        return self.images[-1]


class World:
    def __init__(self, *, strangers: bool = False) -> None:
        self.epoch = Epoch("fake")
        self.tier = "observe+"
        self.strangers = strangers
        self.follow_parents = False
        """Strangers are children of whom /proc says, as far as they are of the same user; they run what those run."""
        self.owner = 1000
        self.processes: dict[int, Process] = {}
        self._by_number: dict[ProcId, Process] = {}
        self.unknown_at_once: set[int] = set()
        """pids of which ``recall`` knows the lineage, and ``attest`` all."""
        self._numbers = itertools.count(1)

    def process(self, pid: int, filename: str = "/bin/sh", *, uid: int = 1000, agent: str = "") -> Process:
        process = Process(ProcId(next(self._numbers)), pid, uid, None)
        self.processes[pid] = self._by_number[process.proc_id] = process
        self.execute(process, filename, agent=agent)
        return process

    def fork(self, parent: Process, pid: int) -> Process:
        child = Process(ProcId(next(self._numbers)), pid, parent.uid, parent, [parent.image])
        self.processes[pid] = self._by_number[child.proc_id] = child
        return child

    def execute(self, process: Process, filename: str, *, agent: str = "", taints: tuple[str, ...] = ()) -> Image:
        exec_id = ExecId(next(self._numbers))
        image = Image(
            exec_id=exec_id,
            proc_id=process.proc_id,
            previous_exec_id=process.images[-1].exec_id if process.images else ExecId(0),
            uid=Uid(process.uid),
            pid=Pid(process.pid),
            exec_ns=0,
            file=_facts_of(filename),
            filename=filename,
            interp=filename,
            argv0=filename,
            args_head=(),
            observed=True,
            taints=taints,
        )
        process.images.append(image)
        if agent:
            process.agents[exec_id] = agent
        return image

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        process = self._find(pidfd)
        return None if process is None else TaskRecord(process.proc_id, process.image.exec_id, process.taints)

    def recall(self, record: TaskRecord) -> Verdict:
        process = self._by_number[record.proc_id]
        if process.pid in self.unknown_at_once:
            return Unknown("the enrolled file was not hashed yet", "", Uid(process.uid), self._steps(process))
        return self._evidence(process)

    async def attest(self, pidfd: int, known: Freshness | None = None) -> Verdict:
        process = self._find(pidfd)
        if process is None:
            return Unknown("the process was never seen")
        evidence = self._evidence(process)
        return Unchanged(known) if known == evidence.freshness else evidence

    def describe(self, pid: int) -> tuple[tuple[Step, ...], str]:
        process = self.processes.get(pid)
        return (self._steps(process), "") if process else ((), f"process {pid} has no record")

    def _find(self, pidfd: int) -> Process | None:
        pid = pid_of(pidfd)
        if pid not in self.processes and self.strangers and pid > 0:
            self._introduce(pid)
        return self.processes.get(pid)

    def _introduce(self, pid: int) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
            exe = str(Path(f"/proc/{pid}/exe").readlink())
        except OSError:
            return
        uid = int(status.partition("\nUid:")[2].split()[0])
        parent = int(status.partition("\nPPid:")[2].split()[0])
        if self.follow_parents and parent not in self.processes:
            self._introduce(parent)
        if self.follow_parents and parent in self.processes and self.processes[parent].uid == uid:
            self.fork(self.processes[parent], pid)
        else:
            self.process(pid, exe, uid=uid)

    def _evidence(self, process: Process) -> Evidence:
        steps = self._steps(process)
        principal, taints = self._principal(steps)
        return Evidence(
            freshness=Freshness(self.epoch, process.proc_id, process.image.exec_id, process.taints),
            uid=Uid(process.uid),
            steps=steps,
            principal=principal,
            taints=taints,
            tier=self.tier,
        )

    def _principal(self, steps: tuple[Step, ...]) -> tuple[Principal | None, tuple[str, ...]]:
        taints: list[str] = []
        depth = 0
        for step in steps:
            depth += step.relation == "fork"
            taints += step.image.taints
            agent = self._by_number[step.proc_id].agents.get(step.image.exec_id)
            if agent and step.relation != "exec":
                principal = Principal(
                    agent=AgentName(agent),
                    owner_uid=Uid(self.owner),
                    proc_id=step.proc_id,
                    exec_id=step.image.exec_id,
                    sha256=Sha256("a" * 64),
                    is_caller=depth == 0,
                    depth=depth,
                )
                return principal, tuple(taints)
        return None, tuple(taints)

    def _steps(self, process: Process) -> tuple[Step, ...]:
        steps: list[Step] = []
        relation = "self"
        current: Process | None = process
        while current is not None:
            for image in reversed(current.images):
                steps.append(Step(current.proc_id, image, relation, exited=False))
                relation = "exec"
            relation = "fork"
            current = current.parent
        return tuple(steps)


def pid_of(pidfd: int) -> int:
    """Return the pid behind a pidfd: -1 if it ended."""
    info = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii")
    return int(info.partition("\nPid:")[2].split()[0])


def _facts_of(filename: str) -> FileFacts:
    try:
        fd = os.open(filename, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return NO_FILE
    try:
        return facts_by_stat(fd)
    finally:
        os.close(fd)
