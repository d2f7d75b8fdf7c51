"""What agent.sock's protocols ask of the rest of the broker."""

from typing import Protocol

from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.issue import Ask, Caller, Issued
from agent_broker.vault.record import Credential
from agent_broker.vault.secret import Secret


class Callers(Protocol):
    """Who looks at callers (monitor.client.MonitorClient)."""

    def caller_by_pidfd(self, pidfd: int) -> Caller:
        """Return the caller that this pidfd names; the pidfd stays the owner's to close."""
        ...


class Issuer(Protocol):
    """Who gives a secret away, or not (issue.Issuer)."""

    async def issue(self, ask: Ask) -> Issued:
        """Return the secret; raises RefusedError, MisuseError, IntegrityError or UnavailableError."""
        ...

    async def permit(self, ask: Ask) -> None:
        """Return if the caller may store or delete this; raises RefusedError or UnavailableError."""
        ...


class Keeper(Protocol):
    """Who keeps what a tool stores (vault.file.Vault)."""

    def put(  # noqa: PLR0913 - as Vault.put
        self,
        credential_id: CredentialId,
        *,
        kind: str,
        agent: AgentName,
        owner_uid: Uid,
        attributes: dict[str, str],
        secret: Secret,
    ) -> Credential:
        """Store a secret, or replace it; durable on return."""
        ...

    def delete(self, credential_id: CredentialId) -> None:
        """Delete it; durable on return."""
        ...


class Minter(Protocol):
    """Who makes something short-lived of a kind of credential (inject.sts_tokens)."""

    async def mint(self, credential: Credential, secret: Secret, narrowed: str, scope: str) -> Secret:
        """Return it, in the form in which the tool's protocol expects it; ``scope``: for what the tool wants it.

        Raises:
            UnavailableError, IntegrityError: it can't be had; what is stored is none of its kind.
        """
        ...
