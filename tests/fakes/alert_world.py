"""A monitor and a broker by way of the real monitor.sock, and a real process that does what alerts tell of."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.daemon.feed import IncidentFeed
from agent_broker.daemon.parts import Parts
from agent_broker.identity.distribution import Package
from agent_broker.identity.evidence import Evidence, Freshness, Principal
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import Enrollment, RoleRule
from agent_broker.ids import AgentName, CredentialId, Epoch, ExecId, ProcId, Uid
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Image, Step
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.completing import Completer
from agent_broker.monitor.fingerprint import Fingerprints, facts_by_stat, hold
from agent_broker.monitor.glimpse import glimpse
from agent_broker.monitor.listener import bind_monitor_socket
from agent_broker.monitor.messages import MonitorStatus
from agent_broker.monitor.publishing import Publisher
from agent_broker.monitor.report import Reporter, Watcher
from agent_broker.monitor.service import Service
from agent_broker.monitor.spool import Spool
from agent_broker.vault.secret import Secret

EPOCH = Epoch("e1")
TIER = "observe+"
OWNER = Uid(64127)
KEY = "sk-ant-api03-" + "k" * 40
VALUE = "ghp_the-value-of-a-planted-decoy"
DECOY = "/home/ann/.env"
CLAUDE = AgentName("claude")
API_KEY = CredentialId("claude/64127/api-key")
ENROLLMENT = Enrollment(CLAUDE, OWNER, "ann", (), RoleRule(("claude",)), (), (), 0)


class Fakes:
    """What only a kernel side with BPF could say, of a real process."""

    def __init__(self, evidence: Evidence, victim: Evidence) -> None:
        self.evidence, self.victim = evidence, victim

    def snapshot(self, pidfd: int) -> TaskRecord | None:
        lines = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines())
        first = self.evidence.steps[0]
        return TaskRecord(first.proc_id, first.image.exec_id, 0) if int(lines["Pid"]) == first.pid else None

    def recall(self, record: TaskRecord) -> Evidence:
        return self.victim if record.proc_id == self.victim.steps[0].proc_id else self.evidence

    async def recall_looking(self, record: TaskRecord) -> Evidence:
        return self.recall(record)

    async def attest(self, _known: object = None) -> Evidence:
        return self.evidence

    def describe(self, _pid: int) -> tuple[tuple[Step, ...], str]:
        return self.evidence.steps, ""

    def known(self, _path: str, _facts: object) -> tuple[Package]:
        return (Package("coreutils", "9.1-1", intact=True),)

    def owner_of(self, path: str, facts: object) -> Package:
        return self.known(path, facts)[0]


class World:
    """A monitor and a broker, both real but for the kernel, and a process that did it all."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="content-", dir="/tmp"))
        self.home = self.folder / "work"
        self.home.mkdir()
        self.clock = SystemClock()
        self.process = subprocess.Popen(
            ["/bin/cat", "-", KEY], cwd=self.home, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.layout = layout = Layout(self.folder / "root")
        for each in (layout.vault_file, layout.frozen_file, layout.monitor_socket):
            each.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in (layout.registry_folder, layout.policy_folder, layout.decoys_folder):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.hashes = HashCache()
        self.is_served = True

    async def start(self) -> None:
        while Path(f"/proc/{self.process.pid}/comm").read_text() != "cat\n":
            await asyncio.sleep(0)  # its exec is on its way
        exe = hold(self.process.pid)
        file = facts_by_stat(exe)
        prints = Fingerprints(self.hashes, facts_by_stat)
        while prints.known(file) is None:
            await prints.of(os.dup(exe), file)
        os.close(exe)
        self.steps = tuple(_step(number, self.process.pid, file) for number in (7, 6, 5))
        self.fakes = Fakes(self.verdict(self.steps), self.verdict((_step(6, 1, file), _step(5, 1, file)), itself=True))
        self.spool = Spool(self.folder / "spool")
        self.completer = Completer(
            attestor=self.fakes, fingerprints=prints, packages=self.fakes, session_of=lambda _: "session-1",
            epoch=EPOCH, tier=TIER,
        )  # fmt: skip
        self.service = self.new_service()
        self.publish = Publisher(self.spool)
        self.publish.complete, self.publish.push = self.completer.complete, self.service.publish
        self.parts = Parts(self.layout, Config(), Secret(b"k" * 32))
        self.feed = asyncio.create_task(IncidentFeed(self.parts).follow())

    def new_service(self) -> Service:
        async def nothing() -> tuple[int, int, tuple[str, ...]]:
            return 0, 0, ()

        def status(number: int) -> MonitorStatus:
            return MonitorStatus(number, EPOCH, TIER, "0", 1, 2, 3, 4, 5, 6, 7, 8, 9, ())

        service = Service(
            listener=bind_monitor_socket(self.layout.monitor_socket, os.getgid()), broker_uid=0, attestor=self.fakes,
            spool=self.spool, reload=nothing, status=status, complete=self.completer.complete,
        )  # fmt: skip
        service.start()
        return service

    def verdict(self, steps: tuple[Step, ...], *, itself: bool = False) -> Evidence:
        freshness = Freshness(EPOCH, steps[0].proc_id, steps[0].image.exec_id, 0)
        principal = Principal(CLAUDE, OWNER, ProcId(6), ExecId(6), "0" * 64, is_caller=itself, depth=0 if itself else 1)
        return Evidence(freshness, OWNER, steps, principal, taints=(), tier=TIER)

    def reporter(self) -> Reporter:
        watcher = Watcher(EPOCH, TIER, self.fakes, lambda _: "session-1")
        prints = Fingerprints(self.hashes, facts_by_stat)
        return Reporter(
            actors=Actors(self.fakes), fingerprints=prints, publish=self.publish, clock=self.clock, watcher=watcher
        )

    def actor(self) -> Actor:
        pid = self.process.pid
        pidfd = os.pidfd_open(pid)
        return Actor(pid, pidfd, self.fakes.snapshot(pidfd), hold(pid), glimpse(pid, pidfd))

    async def hang_up(self) -> None:
        if self.is_served:
            self.is_served = False
            await self.service.close()

    async def close(self) -> None:
        self.feed.cancel()
        await asyncio.gather(self.feed, return_exceptions=True)
        await self.publish.close()
        await self.completer.close()
        await self.hang_up()
        await self.parts.close()
        self.spool.close()
        self.process.communicate()
        shutil.rmtree(self.folder)


def _step(number: int, pid: int, file: object) -> Step:
    image = Image(
        exec_id=ExecId(number), proc_id=ProcId(number), previous_exec_id=ExecId(0), uid=OWNER, pid=pid, exec_ns=99,
        file=file, filename="/usr/bin/cat", interp="/usr/bin/cat", argv0="cat", args_head=("-",), observed=True,
        taints=(),
    )  # fmt: skip
    return Step(ProcId(number), image, "self" if number == 7 else "fork", exited=False)
