"""What the control plane asks of the broker (transport.control_port), answered from its parts."""

import os
from collections.abc import AsyncGenerator, Mapping

import agent_broker
from agent_broker.audit.acks import Alert
from agent_broker.daemon import alert_answers
from agent_broker.daemon.parts import Parts
from agent_broker.daemon.response import let_go_on
from agent_broker.errors import AgentBrokerError, MisuseError, UnavailableError
from agent_broker.grant.freeze import Freeze
from agent_broker.identity.registry import Enrollment
from agent_broker.ids import AgentName, CredentialId, Epoch, Pid, ProcId, Uid, parts_of
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.messages import LineageAnswer, MonitorStatus, ReloadAnswer
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
    ProcessTarget,
    Thawed,
    ThawTarget,
)
from agent_broker.vault.file import Credential, UnknownCredentialError
from agent_broker.vault.root_key import describe_root_key
from agent_broker.vault.secret import Secret

ORIGINAL_KIND = "original-file"


class Control:
    """Implements transport.control_port.ControlPort. Until ``ready`` was called, every answer is "starting"."""

    def __init__(self) -> None:
        self._parts: Parts | None = None
        self._peer_method = ""

    def ready(self, parts: Parts, peer_method: str) -> None:
        """Begin to answer."""
        self._parts = parts
        self._peer_method = peer_method

    async def status(self) -> DaemonStatus:
        """See ReadPort."""
        parts = self._ready()
        config = parts.config
        return DaemonStatus(
            version=agent_broker.__version__,
            pid=Pid(os.getpid()),
            uid=Uid(os.getuid()),
            started_ns=parts.started_ns,
            root_key=describe_root_key(config.vault.root_key, key_file=parts.layout.root_key_file),
            peer_method=self._peer_method,
            inject_endpoint=f"{config.inject.address}:{config.inject.port}",
            agents=len(parts.enrolled.enrollments),
            credentials=len(parts.vault.list()),
            policy_rules=len(parts.policy.rules),
            grants_live=len(parts.ledger.live()),
            frozen=len(parts.frozen.list()),
            monitor=await self._monitor_status(parts),
            problems=(*parts.stored_alerts.store.problems, *parts.views.problems),
            sinks=parts.sinks.status(),
            incidents_in_work=parts.incidents_in_work,
        )

    async def agents(self) -> tuple[Enrollment, ...]:
        """See ReadPort."""
        parts = self._ready()
        return (*parts.enrolled.enrollments, *parts.tools)

    async def credentials(self) -> tuple[Credential, ...]:
        """See ReadPort."""
        return self._ready().vault.list()

    async def frozen(self) -> tuple[Freeze, ...]:
        """See ReadPort."""
        return self._ready().frozen.list()

    async def lineage(self, pid: Pid) -> LineageAnswer:
        """See ReadPort."""
        return await self._ready().monitor.describe_pid(pid)

    def alerts(
        self, limit: int, *, follow: bool, wanted: AlertFilter = ALL_ALERTS
    ) -> AsyncGenerator[Incident | bytes | Missed | None]:
        """See ReadPort."""
        return alert_answers.alerts(self._ready(), limit, wanted, follow=follow)

    async def alert(self, id: str) -> Alert:  # noqa: A002 - the port's name for it
        """See ReadPort."""
        return await self._ready().stored_alerts.find(id)

    async def acknowledge(self, said: Acknowledgement) -> Alert:
        """See AdminPort."""
        return await alert_answers.acknowledge(self._ready(), said)

    async def put_credential(
        self, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str]
    ) -> Credential:
        """See AdminPort."""
        parts = self._ready()
        agent, owner_uid, _ = parts_of(credential)
        stored = parts.vault.put(
            credential, kind=kind, agent=agent, owner_uid=owner_uid, attributes=dict(attributes), secret=secret
        )
        await parts.journal.append("credential-stored", {"credential": credential, "version": stored.version})
        return stored

    async def get_credential(self, credential: CredentialId) -> Secret | None:
        """See AdminPort. Root's own way back: what leaves here is journalled before it leaves."""
        parts = self._ready()
        try:
            secret = parts.vault.unseal(credential)
        except UnknownCredentialError:
            return None
        await parts.journal.append("credential-read", {"credential": credential})
        return secret

    async def put_original(self, credential: CredentialId, path: str, content: Secret) -> None:
        """See AdminPort."""
        await self.put_credential(credential, ORIGINAL_KIND, content, {"path": path})

    async def get_original(self, credential: CredentialId) -> Secret:
        """See AdminPort."""
        parts = self._ready()
        if parts.vault.describe(credential).kind != ORIGINAL_KIND:
            raise MisuseError(f"{credential} is not a file's original: secrets are not handed out here")
        await parts.journal.append("original-read", {"credential": credential})
        return parts.vault.unseal(credential)

    async def make_phantom(self, agent: AgentName, owner_uid: Uid, active: CredentialId, account: str = "") -> Secret:
        """See AdminPort."""
        parts = self._ready()
        phantom = parts.enrolled.make_phantom(agent, owner_uid, active, account)
        parts.phantoms.reload()
        await parts.journal.append("phantom-made", {"agent": agent, "owner": owner_uid, "credential": active})
        return phantom

    async def remove_account(self, agent: AgentName, owner_uid: Uid, account: str) -> int:
        """See AdminPort."""
        parts = self._ready()
        count = parts.enrolled.remove_records(agent, owner_uid, account)
        parts.phantoms.reload()
        await parts.journal.append(
            "account-removed", {"agent": agent, "owner": owner_uid, "account": account, "records": count}
        )
        return count

    async def remove_credential(self, credential: CredentialId) -> int:
        """See AdminPort."""
        parts = self._ready()
        count = parts.enrolled.remove_record(credential)
        parts.ssh_keys.reload()
        await parts.journal.append("credential-removed", {"credential": credential, "records": count})
        return count

    async def remove_agent(self, agent: AgentName, owner_uid: Uid) -> int:
        """See AdminPort."""
        parts = self._ready()
        parts.ledger.end_for_agent(agent, owner_uid)
        count = parts.enrolled.remove_records(agent, owner_uid)
        parts.phantoms.reload()
        parts.ssh_keys.reload()
        await parts.journal.append("agent-removed", {"agent": agent, "owner": owner_uid, "records": count})
        return count

    async def reload(self) -> ReloadAnswer:
        """See AdminPort."""
        parts = self._ready()
        before = {each.file_name: each.history for each in parts.enrolled.enrollments}
        parts.reload()
        answer = await parts.monitor.reload()
        for enrollment in parts.enrolled.enrollments:
            await self._journal_approvals(parts, enrollment, len(before.get(enrollment.file_name, ())))
        await parts.journal.append("reloaded", {"agents": answer.agents, "decoys": answer.decoys})
        return answer

    @staticmethod
    async def _journal_approvals(parts: Parts, enrollment: Enrollment, known: int) -> None:
        for each in enrollment.history[known:]:
            facts = {"path": each.path, "sha256": each.sha256, "version": each.version, "how": each.how}
            await parts.journal.append("approved", {"agent": enrollment.agent, "owner": enrollment.owner_uid, **facts})

    async def freeze(self, target: FreezeTarget, reason: str) -> Freeze:
        """See AdminPort."""
        parts = self._ready()
        if isinstance(target, AgentTarget):
            parts.ledger.end_for_agent(target.agent, target.owner_uid)
            frozen = parts.frozen.freeze_agent(target.agent, target.owner_uid, reason)
        else:
            frozen = await self._freeze_process(parts, target, reason)
        await parts.journal.append("frozen", {"freeze": frozen.id, "reason": reason})
        return frozen

    async def thaw(self, target: ThawTarget) -> Thawed:
        """See AdminPort."""
        parts = self._ready()
        before = parts.frozen.list()
        match target:
            case Everything():
                count = parts.frozen.thaw_all()
            case AgentTarget():
                count = parts.frozen.thaw_agent(target.agent, target.owner_uid)
            case OneFreeze():
                count = int(parts.frozen.thaw(target.freeze_id))
        continued, out_of_reach = await let_go_on(parts.monitor, before, parts.frozen.list())
        await parts.journal.append("thawed", {"count": count, "continued": continued})
        return Thawed(count, continued, out_of_reach)

    async def _freeze_process(self, parts: Parts, target: ProcessTarget, reason: str) -> Freeze:
        epoch, proc_id = await self._identify(parts, target)
        parts.ledger.end_for([proc_id])
        return parts.frozen.freeze_processes(epoch, [proc_id], reason)

    async def _identify(self, parts: Parts, target: ProcessTarget) -> tuple[Epoch, ProcId]:
        lineage = await parts.monitor.describe_pid(target.pid)
        if not lineage.steps:
            raise MisuseError(f"process {target.pid} is not known: {lineage.reason}")
        return Epoch((await parts.monitor.status()).epoch), lineage.steps[0].proc_id

    def _ready(self) -> Parts:
        if self._parts is None:
            raise UnavailableError("the broker is starting", next_step="try again in a moment")
        return self._parts

    async def _monitor_status(self, parts: Parts) -> MonitorStatus | None:
        try:
            return await parts.monitor.status()
        except AgentBrokerError:
            return None  # doctor says so, loudly
