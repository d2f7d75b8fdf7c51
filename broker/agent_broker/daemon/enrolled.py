"""The enrolments as the broker needs them: who is enrolled, and which phantom is whose."""

from pathlib import Path

from agent_broker.errors import MisuseError, RefusedError
from agent_broker.identity.registry import ONLY_ACCOUNT, Enrollment, load_registry
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.inject.phantom import ACCOUNT_ATTRIBUTE, CREDENTIAL_ATTRIBUTE, RECORD_KIND, new_phantom
from agent_broker.vault.file import Credential, Vault
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

    def phantom_for(self, agent: AgentName, uid: Uid, account: str = "") -> str | None:
        """Return the phantom of a user's agent, or the one that names this account; None: the agent is not enrolled.

        Raises:
            RefusedError: the agent has no such account.
            IntegrityError: its record is damaged.
        """
        found = [each for each in self.enrollments if (each.agent, each.owner_uid) == (agent, uid)]
        if not found:
            return None
        if account:
            _require_account(found[0], account)
        try:
            return self._vault.unseal(phantom_id(agent, uid, account)).reveal().decode("ascii")
        except MisuseError:  # the only account's own phantom; or enrolled without one: nothing to inject
            return self.phantom_for(agent, uid) if account else None

    def credentials_of(self, agent: AgentName, uid: Uid) -> tuple[Credential, ...]:
        """Return the descriptions of everything of this agent, or tool, of this user, in the order of their ids."""
        return self._vault.list_of(agent, uid)

    def make_phantom(self, agent: AgentName, uid: Uid, active: CredentialId, account: str = "") -> Secret:
        """Return a fresh phantom for a user's agent, bound to its active credential; durable on return.

        Args:
            agent: whose.
            uid: of its owner.
            active: the credential that it stands for.
            account: the account that it names; empty: the agent's own phantom.

        Raises:
            MisuseError: no such credential.
            UnavailableError: the disk refuses.
        """
        self._vault.describe(active)
        phantom = Secret(new_phantom().encode("ascii"))
        named = {ACCOUNT_ATTRIBUTE: account} if account else {}
        self._vault.put(
            phantom_id(agent, uid, account),
            kind=RECORD_KIND,
            agent=agent,
            owner_uid=uid,
            attributes={CREDENTIAL_ATTRIBUTE: active, **named},
            secret=phantom,
        )
        return phantom

    def remove_records(self, agent: AgentName, uid: Uid, account: str = "") -> int:
        """Delete every record of a user's agent, or of this account of it, and what the vault's file kept of them.

        Returns:
            How many there were.

        Raises:
            UnavailableError: the disk refuses; run it again.
        """
        prefix = f"{agent}/{uid}/{account}/" if account else f"{agent}/{uid}/"
        mine = [each.id for each in self._vault.list() if each.id.startswith(prefix)]
        for each in mine:
            self._vault.delete(each)
        self._vault.erase()  # also if none was left: an earlier call may have been killed here
        return len(mine)

    def remove_record(self, credential: CredentialId) -> int:
        """Delete one record, and what the vault's file kept of it; return how many there were.

        Raises:
            UnavailableError: the disk refuses; run it again.
        """
        mine = [each.id for each in self._vault.list() if each.id == credential]
        for each in mine:
            self._vault.delete(each)
        self._vault.erase()
        return len(mine)


def phantom_id(agent: AgentName, uid: Uid, account: str = "") -> CredentialId:
    """Return the id of an enrolment's phantom in the vault, or of an account's."""
    return CredentialId(f"{agent}/{uid}/{account}/phantom" if account else f"{agent}/{uid}/phantom")


def _require_account(enrollment: Enrollment, account: str) -> None:
    names = [each.name for each in enrollment.accounts] or [ONLY_ACCOUNT]
    if account not in names:
        raise RefusedError(
            "account",
            f"{enrollment.agent} has no account of that name here; it has: {', '.join(names)}",
            next_step=f"add it: sudo agent-broker account add {enrollment.agent} NAME",
        )
