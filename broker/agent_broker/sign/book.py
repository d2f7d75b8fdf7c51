"""The keys that can be asked for, by their public halves. No private one is here."""

from typing import Protocol

from msgspec import Struct

from agent_broker.ids import CredentialId, Uid
from agent_broker.ssh.binding import Limits
from agent_broker.ssh.record import KIND, facts_of
from agent_broker.vault.file import Credential


class Records(Protocol):
    """What the book reads: the vault."""

    def list(self) -> tuple[Credential, ...]:
        """Return all records of the vault."""
        ...


class SshKey(Struct, frozen=True):
    """One key pair, without its private half."""

    id: CredentialId
    owner_uid: Uid
    blob: bytes
    """Of the public key."""
    comment: str
    limits: Limits


class KeyBook:
    """See the module; ``reload`` swaps the whole content at once."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._keys: tuple[SshKey, ...] = ()

    def reload(self) -> int:
        """Read the vault's keys again and return how many there are.

        Raises:
            IntegrityError: a record is not what was enrolled; the book keeps its former content.
        """
        keys = []
        for record in self._records.list():
            if record.kind == KIND:
                facts = facts_of(record.attributes, record.id)
                keys.append(SshKey(record.id, record.owner_uid, facts.blob, facts.comment, facts.limits))
        self._keys = tuple(keys)
        return len(keys)

    def keys_of(self, uid: Uid) -> tuple[SshKey, ...]:
        """Return a user's keys, ordered by id."""
        return tuple(key for key in self._keys if key.owner_uid == uid)

    def find(self, blob: bytes, uid: Uid | None) -> SshKey | None:
        """Return the key of a public half, the user's own if several have it; None: there is none."""
        found = [key for key in self._keys if key.blob == blob]
        own = [key for key in found if key.owner_uid == uid]
        return next(iter(own or found), None)
