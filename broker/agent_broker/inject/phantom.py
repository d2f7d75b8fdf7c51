"""Phantom tokens: what an agent holds instead of a secret.

The law of this module:
1. A phantom is 160 random bits behind a fixed prefix. It is worthless everywhere but at this machine's
   injection endpoint, and there only in the hands of the enrolled agent's main process.
2. It is recognisable: whoever finds one in a log, a dump or a commit sees what it is and that it opens nothing.
3. The broker keeps digests of phantoms in memory, not phantoms. A look-up is by digest, so what its
   duration tells is about the digest of what the caller sent, never about a phantom.
4. A value that two records share names nobody: it is refused.
"""

import base64
import hashlib
import re
import secrets
from typing import Final, Protocol

from msgspec import Struct

from agent_broker.errors import IntegrityError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret

PREFIX: Final = "agent-broker-phantom-"
RECORD_KIND: Final = "phantom"
"""``kind`` of a phantom's record in the vault."""
CREDENTIAL_ATTRIBUTE: Final = "credential"
"""Attribute of a phantom's record: the id of the credential that it stands for."""

ACCOUNT_ATTRIBUTE: Final = "account"
"""Attribute of a phantom's record: the account that it names; missing: the folder decides (grant.accounts)."""

_RANDOM_BYTES: Final = 20  # 160 bits, and a whole number of base32 characters
_SHAPE: Final = re.compile(re.escape(PREFIX) + r"[a-z2-7]{32}")


def new_phantom() -> str:
    """Return a fresh phantom: the prefix and 32 characters of lower-case base32."""
    return PREFIX + base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode("ascii").lower()


def is_phantom(value: str) -> bool:
    """Whether the value has exactly a phantom's form; says nothing about whether it is known."""
    return _SHAPE.fullmatch(value) is not None


def mentions_phantom(text: str) -> bool:
    """Whether a phantom, or what could be part of one, occurs anywhere in the text."""
    return PREFIX in text.lower()


class PhantomEntry(Struct, frozen=True):
    """What one phantom stands for."""

    agent: AgentName
    owner_uid: Uid
    credential: CredentialId
    account: str = ""
    """The account that it names; empty: the agent's own phantom, and its folder decides."""


class PhantomRecords(Protocol):
    """What the book reads: the vault."""

    def list(self) -> tuple[Credential, ...]:
        """Return all records of the vault."""
        ...

    def unseal(self, id: CredentialId) -> Secret:  # noqa: A002 - the vault's own parameter name
        """Return one record's secret."""
        ...


class PhantomBook:
    """Digest of phantom to what it stands for; ``reload`` swaps the whole content at once."""

    def __init__(self, records: PhantomRecords) -> None:
        self._records = records
        self._entries: dict[bytes, PhantomEntry] = {}

    def reload(self) -> int:
        """Read the vault's phantoms again and return how many there are.

        Raises:
            IntegrityError: a phantom's record has no form or no credential, or two records hold the same
                phantom; the book keeps its former content.
        """
        entries: dict[bytes, PhantomEntry] = {}
        for record in self._records.list():
            if record.kind != RECORD_KIND:
                continue
            digest = self._digest_of(record)
            if digest in entries:
                raise IntegrityError(
                    f"{record.id} holds the same phantom as another record", next_step=_enroll_again(record)
                )
            entries[digest] = _entry_of(record)
        self._entries = entries
        return len(entries)

    def find(self, value: str) -> PhantomEntry | None:
        """Return what this phantom stands for; None if it is not one of ours."""
        digest = _digest(value.encode("utf-8", "surrogateescape"))
        return self._entries.get(digest)

    def _digest_of(self, record: Credential) -> bytes:
        with self._records.unseal(record.id).borrow() as value:
            if not is_phantom(str(value, "ascii", "replace")):
                raise IntegrityError(f"{record.id} does not hold a phantom", next_step=_enroll_again(record))
            return _digest(value)


def _digest(value: bytes | memoryview) -> bytes:
    return hashlib.sha256(value).digest()


def _entry_of(record: Credential) -> PhantomEntry:
    credential = record.attributes.get(CREDENTIAL_ATTRIBUTE)
    if not credential:
        raise IntegrityError(f"{record.id} does not name its credential", next_step=_enroll_again(record))
    account = record.attributes.get(ACCOUNT_ATTRIBUTE, "")
    return PhantomEntry(record.agent, record.owner_uid, CredentialId(credential), account)


def _enroll_again(record: Credential) -> str:
    return f"sudo agent-broker enroll {record.agent}"
