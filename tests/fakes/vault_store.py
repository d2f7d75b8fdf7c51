"""The real vault on the real disk behind the port that an enrolment uses; one that is killed is simply opened again."""

import os
from collections.abc import Mapping
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.daemon.enrolled import Enrolled
from agent_broker.ids import AgentName, CredentialId, Uid, parts_of
from agent_broker.vault.file import UnknownCredentialError, Vault
from agent_broker.vault.secret import Secret
from tests.fakes.vaults import ROOT


class VaultStore:
    """Implements enroll.ports.CredentialStore; opened by the first process that uses it, closed by ``close``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._vault: Vault | None = None

    @property
    def vault(self) -> Vault:
        if self._vault is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._vault = Vault.open(self.folder / "vault.sqlite3", Secret(ROOT), SystemClock())
        return self._vault

    def close(self) -> None:
        """Let another process have it; before each fork, since SQLite's locks are the process's."""
        if self._vault is not None:
            self._vault.close()
            self._vault = None

    def unsealed(self) -> dict[str, bytes]:
        """Everything in it, by id."""
        return {each.id: self.vault.unseal(each.id).reveal() for each in self.vault.list()}

    def sealed(self) -> set[bytes]:
        """The sealed values as they lie in the file."""
        rows = self.vault._database.rows("test", "SELECT wrapped_key, substr(ciphertext, 1, 48) FROM records")
        return {piece for row in rows for piece in row}

    def raw(self) -> bytes:
        """Every byte of its files."""
        return b"".join(path.read_bytes() for path in sorted(self.folder.iterdir()))

    def put_credential(
        self, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str]
    ) -> None:
        agent, owner_uid, _ = parts_of(credential)
        self.vault.put(
            credential, kind=kind, agent=agent, owner_uid=owner_uid, attributes=dict(attributes), secret=secret
        )

    def get_credential(self, credential: CredentialId) -> Secret | None:
        try:
            return self.vault.unseal(credential)
        except UnknownCredentialError:
            return None

    def put_original(self, credential: CredentialId, path: str, content: Secret) -> None:
        self.put_credential(credential, "original-file", content, {"path": path})

    def get_original(self, credential: CredentialId) -> Secret:
        return self.vault.unseal(credential)

    def make_phantom(self, agent: AgentName, owner_uid: Uid, active: CredentialId) -> Secret:
        return self._enrolled().make_phantom(agent, owner_uid, active)

    def remove_agent(self, agent: AgentName, owner_uid: Uid) -> int:
        return self._enrolled().remove_records(agent, owner_uid)

    def _enrolled(self) -> Enrolled:
        return Enrolled(Path(os.devnull), self.vault)
