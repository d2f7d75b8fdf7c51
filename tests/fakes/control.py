"""A broker that lives in memory: implements the control plane's port, and can be served on real sockets.

Change the world by plain assignment (``world.tier = "observe"``), read it the same way; ``publish`` makes an alert.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Self

import msgspec

from agent_broker.audit.acks import Ack, Alert, is_settled, rank
from agent_broker.config.layout import Layout
from agent_broker.errors import MisuseError
from agent_broker.grant.freeze import Freeze
from agent_broker.identity.registry import DecoyFile, EnrolledBinary, Enrollment, RoleRule
from agent_broker.ids import AgentName, CredentialId, Epoch, ExecId, Pid, ProcId, Sha256, Uid
from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Image, Step
from agent_broker.monitor.incident import Incident, new_incident
from agent_broker.monitor.messages import LineageAnswer, MonitorStatus, ReloadAnswer
from agent_broker.monitor.sight import sight_without
from agent_broker.transport.control_records import (
    ALL_ALERTS,
    Acknowledgement,
    AgentTarget,
    AlertFilter,
    DaemonStatus,
    Everything,
    FreezeTarget,
    Missed,
    OneFreeze,
    Thawed,
    ThawTarget,
)
from agent_broker.transport.control_server import ControlServer
from agent_broker.vault.record import Credential, UnknownCredentialError
from agent_broker.vault.secret import Secret

NOON_NS = 1_790_000_000_000_000_000
OWNER = Uid(4711)
HASH = Sha256("4bb06f8e4e3a7715d201d573d0aa423762e55dabd61a2c02278fa56cc6d294e0")


def image(program: str, *arguments: str, pid: int = 100, observed: bool = True, taints: tuple[str, ...] = ()) -> Image:
    """An image whose file facts matter to nobody."""
    facts = FileFacts(8, pid, 0, 1000, 0, 0, 0o100755, Uid(0), 1, 0xEF53)
    return Image(
        exec_id=ExecId(pid),
        proc_id=ProcId(pid),
        previous_exec_id=ExecId(0),
        uid=OWNER,
        pid=Pid(pid),
        exec_ns=1,
        file=facts,
        filename=program,
        interp=program,
        argv0=program.rpartition("/")[2],
        args_head=arguments,
        observed=observed,
        taints=taints,
    )


def lineage(*images: Image) -> tuple[Step, ...]:
    """Steps from a process to its origin."""
    relations = ["self", *["fork"] * (len(images) - 1)]
    return tuple(Step(each.proc_id, each, how, exited=False) for each, how in zip(images, relations, strict=True))


SCANNER = lineage(
    image("/tmp/scan/scanner", "/home/alice/.claude/.credentials.json", pid=4242),
    image("/usr/bin/bash", "-c", "source snapshot.sh && /tmp/scan/scanner", pid=4240),
    image("/usr/lib/node_modules/@anthropic-ai/claude-code/bin/claude.exe", "-p", "scan", pid=4200),
    image("/usr/bin/bash", pid=4100),
)


def decoy_opened(lineage_: tuple[Step, ...] = SCANNER, **changes: object) -> Incident:
    """The alert that this product exists for."""
    facts: dict[str, object] = {
        "kind": "decoy-opened",
        "time_ns": NOON_NS,
        "severity": "critical",
        "what": "/tmp/scan/scanner (pid 4242, uid 4711), started by the agent claude, opened the decoy "
        "/home/alice/.claude/.credentials.json and was served it",
        "tier": "observe+",
        "action": "served-decoy",
        "lineage": lineage_,
        "path": "/home/alice/.claude/.credentials.json",
        "process_sha256": HASH,
        "agent": "claude",
        "next_step": "look at what claude was asked to do, and by whom",
    }
    return new_incident(**(facts | changes))  # type: ignore[arg-type]  # a test's shorthand


def enrollment() -> Enrollment:
    return Enrollment(
        agent=AgentName("claude"),
        owner_uid=OWNER,
        owner_name="alice",
        binaries=(EnrolledBinary("/usr/lib/node_modules/@anthropic-ai/claude-code/bin/claude.exe", HASH, 239_000_000),),
        role=RoleRule(argv0_names=("claude",)),
        decoys=(DecoyFile("/home/alice/.claude/.credentials.json", "claude-oauth"),),
        credentials=(CredentialId("claude/4711/oauth"),),
        enrolled_ns=NOON_NS,
    )


def monitor_status(**changes: object) -> MonitorStatus:
    facts: dict[str, object] = {
        "id": 1,
        "epoch": "e1",
        "tier": "observe+",
        "version": "0.1.0",
        "processes": 120,
        "images": 180,
        "events": 5000,
        "lost_events": 0,
        "incidents_made": 1,
        "incidents_unacknowledged": 0,
        "spool_dropped": 0,
        "agents": 1,
        "decoys_watched": 1,
        "problems": (),
        "sight": sight_without({}),
        "proven_age_ns": 500_000_000,
    }
    return MonitorStatus(**(facts | changes))  # type: ignore[arg-type]  # a test's shorthand


class FakeBroker:
    """The world."""

    def __init__(self) -> None:
        self.enrollments: list[Enrollment] = []
        self.vault: dict[str, tuple[Credential, bytes]] = {}
        self.originals: dict[str, tuple[str, bytes]] = {}
        self.account_phantoms: dict[str, str] = {}
        self.freezes: list[Freeze] = []
        self.continued = self.out_of_reach = 0
        self.acks: dict[str, Ack] = {}
        self.incidents: list[Incident] = []
        self.processes: dict[int, tuple[Step, ...]] = {4242: SCANNER}
        self.monitor: MonitorStatus | None = monitor_status()
        self.problems: tuple[str, ...] = ()
        self.uid = Uid(4000)
        self.policy_rules = 1
        self.reloads = 0
        self.failure: Exception | None = None
        """Raised by every call, if set."""
        self.follower_capacity = 100
        self._followers: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Incident | Missed]]] = []

    def publish(self, incident: Incident) -> None:
        """Record an incident; from any thread."""
        self.incidents.append(incident)
        for loop, queue in self._followers:
            loop.call_soon_threadsafe(self._offer, queue, incident)

    def _offer(self, queue: "asyncio.Queue[Incident | Missed]", incident: Incident) -> None:
        queue.put_nowait(incident if queue.qsize() < self.follower_capacity else Missed(1))

    @property
    def followers(self) -> int:
        return len(self._followers)

    def _fail_if_told(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def status(self) -> DaemonStatus:
        self._fail_if_told()
        return DaemonStatus(
            version="0.1.0",
            pid=Pid(os.getpid()),
            uid=self.uid,
            started_ns=NOON_NS,
            root_key="in the file /etc/agent-broker/root.key, readable by root alone and not encrypted",
            peer_method="SCM_PIDFD",
            inject_endpoint="127.0.0.1:917",
            agents=len(self.enrollments),
            credentials=len(self.vault),
            policy_rules=self.policy_rules,
            grants_live=0,
            frozen=len(self.freezes),
            monitor=self.monitor,
            problems=self.problems,
        )

    async def agents(self) -> tuple[Enrollment, ...]:
        self._fail_if_told()
        return tuple(self.enrollments)

    async def credentials(self) -> tuple[Credential, ...]:
        self._fail_if_told()
        return tuple(credential for credential, _ in self.vault.values())

    async def frozen(self) -> tuple[Freeze, ...]:
        self._fail_if_told()
        return tuple(self.freezes)

    async def lineage(self, pid: Pid) -> LineageAnswer:
        self._fail_if_told()
        steps = self.processes.get(pid, ())
        return LineageAnswer(1, steps, "" if steps else "no such process")

    async def alert(self, id: str) -> Alert:  # noqa: A002 - the port's name for it
        self._fail_if_told()
        found = [each for each in self._newest().values() if each.id.startswith(id)]
        if len(found) != 1:
            raise MisuseError(f"{'several alerts begin with' if found else 'there is no alert'} {id}")
        return Alert.of(found[0], self.acks.get(found[0].id))

    async def acknowledge(self, said: Acknowledgement) -> Alert:
        incident = await self.alert(said.alert)
        self.acks[incident.id] = Ack(
            incident.id,
            said.uid,
            NOON_NS,
            said.reason,
            incident.severity,
            incident.revision,
            said.allowed,
            said.expires_ns,
        )
        return await self.alert(incident.id)

    def _newest(self) -> dict[str, Incident]:
        return {each.id: each for each in self.incidents}

    def _is_wanted(self, incident: Incident, wanted: AlertFilter) -> bool:
        settled = is_settled(incident, self.acks.get(incident.id))
        return (
            rank(incident.severity) >= rank(wanted.min_severity)
            and max(incident.last_ns, incident.time_ns) >= wanted.since_ns
            and not (wanted.hide_acked and settled)
        )

    async def alerts(
        self, limit: int, *, follow: bool, wanted: AlertFilter = ALL_ALERTS
    ) -> AsyncGenerator[Incident | bytes | Missed | None]:
        self._fail_if_told()
        queue: asyncio.Queue[Incident | Missed] = asyncio.Queue()
        entry = (asyncio.get_running_loop(), queue)
        self._followers += [entry] if follow else []
        try:
            newest = [each for each in self._newest().values() if self._is_wanted(each, wanted)]
            stored = newest[-limit:] if limit else []
            if follow:
                yield None
            for incident in stored:
                yield msgspec.json.encode(Alert.of(incident, self.acks.get(incident.id)))
            while follow:
                yield await queue.get()
        finally:
            if follow:
                self._followers.remove(entry)

    async def put_credential(
        self, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str]
    ) -> Credential:
        self._fail_if_told()
        agent, uid, _ = credential.split("/", 2)
        version = self.vault[credential][0].version + 1 if credential in self.vault else 1
        made = Credential(
            credential, kind, AgentName(agent), Uid(int(uid)), version, NOON_NS, NOON_NS, dict(attributes)
        )
        self.vault[credential] = (made, secret.reveal())
        return made

    async def get_credential(self, credential: CredentialId) -> Secret | None:
        self._fail_if_told()
        return Secret(self.vault[credential][1]) if credential in self.vault else None

    async def put_original(self, credential: CredentialId, path: str, content: Secret) -> None:
        self._fail_if_told()
        self.originals[credential] = (path, content.reveal())

    async def get_original(self, credential: CredentialId) -> Secret:
        self._fail_if_told()
        if credential not in self.originals:
            raise UnknownCredentialError(credential)
        return Secret(self.originals[credential][1])

    async def make_phantom(self, agent: AgentName, owner_uid: Uid, active: CredentialId, account: str = "") -> Secret:
        self._fail_if_told()
        if account:
            self.account_phantoms[f"{agent}/{owner_uid}/{account}"] = active
        return Secret(f"phantom-of-{agent}-{owner_uid}-{active}".encode())

    async def remove_account(self, agent: AgentName, owner_uid: Uid, account: str) -> int:
        self._fail_if_told()
        prefix = f"{agent}/{owner_uid}/{account}"
        gone = [each for each in self.vault if each.startswith(f"{prefix}/")]
        for each in gone:
            del self.vault[each]
        return len(gone) + (self.account_phantoms.pop(prefix, None) is not None)

    async def remove_credential(self, credential: CredentialId) -> int:
        self._fail_if_told()
        return int(self.vault.pop(credential, None) is not None)

    async def remove_agent(self, agent: AgentName, owner_uid: Uid) -> int:
        self._fail_if_told()
        prefix = f"{agent}/{owner_uid}/"
        gone = [each for store in (self.vault, self.originals) for each in store if each.startswith(prefix)]
        for each in gone:
            self.vault.pop(each, None)
            self.originals.pop(each, None)
        return len(gone)

    async def reload(self) -> ReloadAnswer:
        self._fail_if_told()
        self.reloads += 1
        return ReloadAnswer(1, len(self.enrollments), sum(len(each.decoys) for each in self.enrollments), ())

    async def freeze(self, target: FreezeTarget, reason: str) -> Freeze:
        self._fail_if_told()
        number = len(self.freezes) + 1
        if isinstance(target, AgentTarget):
            made = Freeze(number, reason, NOON_NS, agent=target.agent, owner_uid=target.owner_uid)
        elif target.pid in self.processes:
            made = Freeze(number, reason, NOON_NS, epoch=Epoch("e1"), proc_ids=(ProcId(target.pid),))
        else:
            raise MisuseError(f"there is no process {target.pid}")
        self.freezes.append(made)
        return made

    async def thaw(self, target: ThawTarget) -> Thawed:
        self._fail_if_told()
        before = len(self.freezes)
        self.freezes = [each for each in self.freezes if not _concerns(each, target)]
        return Thawed(before - len(self.freezes), self.continued, self.out_of_reach)


def _concerns(freeze: Freeze, target: ThawTarget) -> bool:
    match target:
        case Everything():
            return True
        case AgentTarget(agent=agent, owner_uid=owner_uid):
            return freeze.agent == agent and owner_uid in {None, freeze.owner_uid}
        case OneFreeze(freeze_id=number):
            return freeze.id == number


class ServedBroker:
    """A FakeBroker on real sockets below a root; a context manager. Its event loop runs in a thread of its own."""

    def __init__(self, world: FakeBroker, root: Path, *, read_gid: int = 0) -> None:
        self.layout = Layout(root)
        self._world = world
        self._read_gid = read_gid
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: ControlServer | None = None

    def __enter__(self) -> Self:
        self.layout.run_folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._end_loop()

    def stop(self) -> None:
        """Stop serving; what is called then finds nobody."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(grace_s=0), self._loop).result()
            self._server = None

    async def _start(self) -> None:
        self._server = ControlServer(self._world)
        await self._server.start(admin=self.layout.admin_socket, read=self.layout.read_socket, read_gid=self._read_gid)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def wait_for_followers(world: FakeBroker, count: int) -> None:
    """Return when so many follow; the caller's test would hang otherwise, not pass."""
    while world.followers != count:
        time.sleep(0.001)
