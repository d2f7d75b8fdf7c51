"""A vault in memory that can be killed: it keeps what it confirmed, and answers nothing until it is started again."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.vault import record
from agent_broker.vault.secret import Secret


@dataclass
class FakeRecord:
    kind: str
    content: bytes = field(repr=False)
    attributes: dict[str, str] = field(default_factory=dict)
    version: int = 1


class FakeCredentialStore:
    """Implements enroll.ports.CredentialStore; ``records`` is the world, for tests to look into and to change."""

    def __init__(self) -> None:
        self.records: dict[str, FakeRecord] = {}
        self.alive = True

    def kill(self) -> None:
        self.alive = False

    def restart(self) -> None:
        self.alive = True

    def holds(self, value: bytes) -> bool:
        return any(value in record.content for record in self.records.values())

    def put_credential(
        self, credential: CredentialId, kind: str, secret: Secret, attributes: Mapping[str, str]
    ) -> None:
        self._put(credential, kind, secret.reveal(), dict(attributes))

    def get_credential(self, credential: CredentialId) -> Secret | None:
        self._require_alive()
        record = self.records.get(credential)
        return None if record is None else Secret(record.content)

    def put_original(self, credential: CredentialId, path: str, content: Secret) -> None:
        self._put(credential, "original-file", content.reveal(), {"path": path})

    def get_original(self, credential: CredentialId) -> Secret:
        self._require_alive()
        if credential not in self.records:
            raise MisuseError(f"there is no {credential} in the vault")
        return Secret(self.records[credential].content)

    def make_phantom(self, agent: AgentName, owner_uid: Uid, active: CredentialId, account: str = "") -> Secret:
        phantom = f"abp-{secrets.token_hex(24)}"
        name = CredentialId(f"{agent}/{owner_uid}/{account}/phantom" if account else f"{agent}/{owner_uid}/phantom")
        self._put(name, "phantom", phantom.encode(), {"credential": active})
        return Secret(phantom.encode())

    def remove_account(self, agent: AgentName, owner_uid: Uid, account: str) -> int:
        self._require_alive()
        mine = [id_ for id_ in self.records if id_.startswith(f"{agent}/{owner_uid}/{account}/")]
        for id_ in mine:
            del self.records[id_]
        return len(mine)

    def remove_credential(self, credential: CredentialId) -> int:
        self._require_alive()
        return int(self.records.pop(credential, None) is not None)

    def remove_agent(self, agent: AgentName, owner_uid: Uid) -> int:
        self._require_alive()
        mine = [id_ for id_ in self.records if id_.startswith(f"{agent}/{owner_uid}/")]
        for id_ in mine:
            del self.records[id_]
        return len(mine)

    def _put(self, id_: CredentialId, kind: str, content: bytes, attributes: dict[str, str]) -> None:
        self._require_alive()
        if not record._ID.fullmatch(id_):
            raise MisuseError(f"the real vault would refuse the id {id_}")
        earlier = self.records.get(id_)
        self.records[id_] = FakeRecord(kind, content, attributes, earlier.version + 1 if earlier else 1)

    def _require_alive(self) -> None:
        if not self.alive:
            raise UnavailableError("the vault does not answer", next_step="start it")
