"""The enrolments as the broker needs them: who is enrolled, and which phantom is whose."""

from pathlib import Path

from agent_broker.errors import MisuseError
from agent_broker.identity.registry import Enrollment, load_registry
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.inject.phantom import CREDENTIAL_ATTRIBUTE, RECORD_KIND, new_phantom
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret


class Enrolled:
    """Registry and phantoms. The registry is root's word; the phantoms are in the vault."""

    def __init__(self, registry: Path, vault: Vault) -> None:
        self._registry = registry
        self._vault = vault
        self.enrollments: tuple[Enrollment, ...] = ()

    def reload(self) -> None:
        """Read the registry again.

        Raises:
            IntegrityError, MisuseError: see load_registry.
        """
        self.enrollments = load_registry(self._registry)

    def agents_of(self, uid: Uid) -> tuple[AgentName, ...]:
        """Return the enrolled agents of a user."""
        return tuple(each.agent for each in self.enrollments if each.owner_uid == uid)

    def phantom_for(self, agent: AgentName, uid: Uid) -> str | None:
        """Return the phantom of a user's agent; None: it is not enrolled.

        Raises:
            IntegrityError: its record is damaged.
        """
        if agent not in self.agents_of(uid):
            return None
        try:
            return self._vault.unseal(phantom_id(agent, uid)).reveal().decode("ascii")
        except MisuseError:  # enrolled without a phantom: nothing to inject
            return None

    def make_phantom(self, agent: AgentName, uid: Uid, active: CredentialId) -> Secret:
        """Return a fresh phantom for a user's agent, bound to its active credential; durable on return.

        Raises:
            MisuseError: no such credential.
            UnavailableError: the disk refuses.
        """
        self._vault.describe(active)
        phantom = Secret(new_phantom().encode("ascii"))
        self._vault.put(
            phantom_id(agent, uid),
            kind=RECORD_KIND,
            agent=agent,
            owner_uid=uid,
            attributes={CREDENTIAL_ATTRIBUTE: active},
            secret=phantom,
        )
        return phantom

    def remove_records(self, agent: AgentName, uid: Uid) -> int:
        """Delete every record of a user's agent from the vault; return how many.

        Raises:
            UnavailableError: the disk refuses.
        """
        mine = [each.id for each in self._vault.list() if (each.agent, each.owner_uid) == (agent, uid)]
        for each in mine:
            self._vault.delete(each)
        return len(mine)


def phantom_id(agent: AgentName, uid: Uid) -> CredentialId:
    """Return the id of an enrolment's phantom in the vault."""
    return CredentialId(f"{agent}/{uid}/phantom")
