"""What an enrolment needs of the rest of the product: a vault, a watch, places, a clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent_broker.clock import Clock
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.monitor.messages import ReloadAnswer
from agent_broker.vault.secret import Secret


class CredentialStore(Protocol):
    """The vault as the command line sees it. Each method is durable when it returns, and may be repeated.

    Every method raises UnavailableError if the vault does not answer; then it may have happened or not.
    """

    def put_credential(
        self, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str]
    ) -> object:
        """Keep a credential; one of the same id is replaced."""
        ...

    def get_credential(self, credential: CredentialId) -> Secret | None:
        """Return a credential as it is now (an OAuth credential is refreshed while in use); None: there is none."""
        ...

    def put_original(self, credential: CredentialId, path: str, content: Secret) -> None:
        """Keep a file's bytes; one of the same id is replaced."""
        ...

    def get_original(self, credential: CredentialId) -> Secret:
        """Return a file's bytes.

        Raises:
            MisuseError: there is no such record.
        """
        ...

    def make_phantom(self, agent: AgentName, owner_uid: Uid, active: CredentialId, account: str = "") -> Secret:
        """Make and keep a fresh phantom that stands for a credential and names the account; an earlier one ends."""
        ...

    def remove_credential(self, credential: CredentialId) -> int:
        """Delete one credential; return how many records that were."""
        ...

    def remove_agent(self, agent: AgentName, owner_uid: Uid) -> int:
        """Delete every record of one agent of one user: credentials, phantom, originals; return how many."""
        ...


class Watch(Protocol):
    """The monitor and the broker as the command line sees them."""

    def reload(self) -> ReloadAnswer:
        """Make both act on the registry and the policy as they are now.

        When it returns, what is enrolled is watched, what is not enrolled is not, and no credential of it is used
        or refreshed any more.

        Raises:
            UnavailableError: no answer.
        """
        ...


def _no_step(_: str) -> None:
    return


@dataclass(frozen=True)
class Site:
    """Where and with what a transaction works."""

    store: CredentialStore
    watch: Watch
    journal_dir: Path
    registry_dir: Path
    policy_dir: Path
    clock: Clock
    on_step: Callable[[str], None] = _no_step
    """Called after each step with its name: for progress, and for tests that stop there."""
    planted: tuple[PlantedDecoy, ...] = ()
    """Decoys that are no enrolment's: watched, so nothing opens them on the way."""
    tools_dir: Path | None = None
    """The registry of tools; None: no tool is enrolled or unenrolled here."""

    @property
    def registries(self) -> tuple[Path, ...]:
        """Every folder in which enrolments are."""
        return (self.registry_dir,) if self.tools_dir is None else (self.registry_dir, self.tools_dir)
