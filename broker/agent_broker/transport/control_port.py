"""What the broker must be able to do for its control plane: implemented by the daemon, and by a fake in tests.

Each method raises the families of ``errors``; anything else counts as a bug inside and its text stays inside.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from agent_broker.audit.acks import Alert
from agent_broker.grant.freeze import Freeze
from agent_broker.identity.registry import Enrollment
from agent_broker.ids import AgentName, CredentialId, Pid, Uid
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.messages import LineageAnswer, ReloadAnswer
from agent_broker.transport.control_records import (
    ALL_ALERTS,
    Acknowledgement,
    AlertFilter,
    DaemonStatus,
    FreezeTarget,
    Missed,
    Thawed,
    ThawTarget,
)
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret


class ReadPort(Protocol):
    """What members of the broker's group may ask; nothing here can return a secret."""

    async def status(self) -> DaemonStatus:
        """Return how the broker is; answers also when the monitor is down."""
        ...

    async def agents(self) -> tuple[Enrollment, ...]:
        """Return all enrolments."""
        ...

    async def credentials(self) -> tuple[Credential, ...]:
        """Return what the vault holds, without values."""
        ...

    async def frozen(self) -> tuple[Freeze, ...]:
        """Return what is frozen."""
        ...

    async def lineage(self, pid: Pid) -> LineageAnswer:
        """Return the recorded lineage of a live process; no steps and a reason if it is not known."""
        ...

    async def alert(self, id: str) -> Alert:  # noqa: A002 - what it is
        """Return the alert whose id begins so, with what was said about it."""
        ...

    def alerts(
        self, limit: int, *, follow: bool, wanted: AlertFilter = ALL_ALERTS
    ) -> AsyncGenerator[Incident | bytes | Missed | None]:
        """Yield the newest ``limit`` incidents, oldest first; if ``follow``, then each new one as it is recorded.

        A follower's iterator yields None once, at the moment from which no later incident can be missed
        silently (it must be subscribed before it reads the stored ones; no incident is yielded twice, but a higher
        revision of one is). Bytes are JSON of audit.acks.Alert.
        """
        ...


class AdminPort(Protocol):
    """What root may ask."""

    async def put_credential(
        self, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str]
    ) -> Credential:
        """Store or replace a credential; durable on return. Agent and owner are those of its id."""
        ...

    async def get_credential(self, credential: CredentialId) -> Secret | None:
        """Return a credential as it is now, for unenroll to write back; None: there is none."""
        ...

    async def put_original(self, credential: CredentialId, path: str, content: Secret) -> None:
        """Store the exact bytes of a user's file; durable on return."""
        ...

    async def get_original(self, credential: CredentialId) -> Secret:
        """Return the bytes of a stored original."""
        ...

    async def make_phantom(self, agent: AgentName, owner_uid: Uid, active: CredentialId, account: str = "") -> Secret:
        """Make (or re-bind) the phantom of an enrolment, or the one that names this account; durable on return."""
        ...

    async def remove_agent(self, agent: AgentName, owner_uid: Uid) -> int:
        """Delete all records of one enrolment and end its grants; return how many there were."""
        ...

    async def remove_account(self, agent: AgentName, owner_uid: Uid, account: str) -> int:
        """Delete the credential and the phantom of one account of an enrolment; return how many records that were."""
        ...

    async def remove_credential(self, credential: CredentialId) -> int:
        """Delete one credential; return how many records that were."""
        ...

    async def reload(self) -> ReloadAnswer:
        """Read registry and policy again, here and in the monitor; return when all of it is in force."""
        ...

    async def freeze(self, target: FreezeTarget, reason: str) -> Freeze:
        """End the target's grants and give it no new ones until thawed; durable on return."""
        ...

    async def thaw(self, target: ThawTarget) -> Thawed:
        """Undo freezes, and let go on who was stopped with them; return what came of it."""
        ...

    async def acknowledge(self, said: Acknowledgement) -> Alert:
        """Write down what a person says about an alert; durable on return."""
        ...


class ControlPort(ReadPort, AdminPort, Protocol):
    """Both."""
