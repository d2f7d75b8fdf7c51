"""What the vault's file holds, as structs: records, header, manifest. Pure: no file, no key.

A record is valid if its row's digest is the one in the manifest; the manifest is valid if its MAC over the whole
header is; a secret is valid if it unseals with ``sealed_facts`` of its row. ``docs/vault-format.md`` has the bytes.
"""

import hashlib
import re
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.errors import MisuseError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.vault.envelope import Sealed

FORMAT: Final = 1
MAX_ATTRIBUTES_BYTES: Final = 64 << 10
BASE_URL_ATTRIBUTE: Final = "base_url"
"""Attribute of a credential that belongs to another host than its kind's provider: set at enrolment, https only."""
ACCOUNT_ATTRIBUTE: Final = "account_id"
"""Attribute of a credential: the account that it was given to, where a provider wants to be told."""

DESTINATION_ATTRIBUTE: Final = "destination"
"""Attribute of a tool's credential: the server, and perhaps the path, that it is for (policy.destination)."""
USERNAME_ATTRIBUTE: Final = "username"
"""Attribute of a tool's credential: whose password it is there."""
PROFILE_ATTRIBUTE: Final = "profile"
"""Attribute of a tool's credential: what the tool's own configuration calls it, where the tool asks by that name."""
MODES_ATTRIBUTE: Final = "modes"
"""Attribute of a tool's credential: in which ways it can be used, the strongest first; missing: ``release``."""
ROLE_ATTRIBUTE: Final = "role_arn"
"""Attribute of a key pair of AWS's: the role that is assumed with it. The pair itself is then given to nobody."""
EXTERNAL_ID_ATTRIBUTE: Final = "external_id"
ROLE_SESSION_ATTRIBUTE: Final = "role_session_name"
"""Attributes of such a pair: what the role wants to be told, and what its sessions are called."""
PROJECT_ATTRIBUTE: Final = "project"
"""Attribute of a credential for a cloud: the project at Google that it is used for."""
REGIONS_ATTRIBUTE: Final = "regions"
"""Attribute of a credential for a cloud: its regions, with a space between two. The first is that of requests that
name none."""
REGION_SHAPE: Final = re.compile(r"[a-z]{2,12}(-[a-z0-9]{1,12}){0,4}")
"""``us-east-1``, ``us-gov-west-1``, ``europe-west4``, ``global``."""
PROJECT_SHAPE: Final = re.compile(r"([a-z0-9.-]{1,63}:)?[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""An id or number of a project at Google, behind a domain for old ones."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}/[0-9]{1,10}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){1,4}")
_KIND = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

Manifest = dict[CredentialId, tuple[int, str]]
"""Version and row digest of each record."""


class UnknownCredentialError(MisuseError):
    """The vault holds no record of this id."""

    def __init__(self, credential_id: CredentialId) -> None:
        super().__init__(
            f"the vault holds no record {credential_id}", next_step="agent-broker credentials lists what it holds"
        )


class Credential(Struct, frozen=True):
    """What may be known of a record without its secret."""

    id: CredentialId
    kind: str
    agent: AgentName
    owner_uid: Uid
    version: int
    """1 at first; one more with each replacement."""
    created_ns: int
    """CLOCK_REALTIME, of the first version."""
    updated_ns: int
    """CLOCK_REALTIME, of this version."""
    attributes: dict[str, str]
    """Never a secret: they are stored in clear."""

    def require_well_formed(self) -> None:
        """Check what a caller may choose.

        Raises:
            MisuseError: malformed or too long.
        """
        if not _ID.fullmatch(self.id) or not self.id.startswith(f"{self.agent}/{self.owner_uid}/"):
            raise MisuseError("the id of a record is AGENT/OWNER_UID/NAME, of its own agent and owner")
        if not _KIND.fullmatch(self.kind):
            raise MisuseError("the kind of a record is lower-case letters, digits and hyphens")
        if len(attributes_text(self.attributes)) > MAX_ATTRIBUTES_BYTES:
            raise MisuseError(f"the attributes of {self.id} are longer than {MAX_ATTRIBUTES_BYTES} bytes")


class Stored(Struct, frozen=True):
    """A record as it was found: described, and sealed."""

    credential: Credential
    sealed: Sealed


class Row(Struct, frozen=True, array_like=True):
    """One row of ``records``, in the order of its columns."""

    id: CredentialId
    kind: str
    agent: AgentName
    owner_uid: Uid
    version: int
    created_ns: int
    updated_ns: int
    attributes: str
    key_nonce: bytes
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes

    @classmethod
    def of(cls, credential: Credential, sealed: Sealed) -> "Row":
        """Put a description and its sealed value together."""
        fields = (*_described(credential), *msgspec.structs.astuple(sealed))
        return msgspec.convert(fields, type=cls)

    def digest(self) -> str:
        """Return the SHA-256 that the manifest holds of this row."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).hexdigest()

    def credential(self) -> Credential:
        """Return the description."""
        attributes = msgspec.json.decode(self.attributes, type=dict[str, str])
        return Credential(
            self.id, self.kind, self.agent, self.owner_uid, self.version, self.created_ns, self.updated_ns, attributes
        )

    def sealed(self) -> Sealed:
        """Return the sealed value."""
        return Sealed(self.key_nonce, self.wrapped_key, self.nonce, self.ciphertext)


class Header(Struct, frozen=True, array_like=True):
    """The one row of ``header``, in the order of its columns."""

    format: int
    vault_id: bytes
    salt: bytes
    key_check: bytes
    generation: int
    manifest: bytes
    manifest_mac: bytes

    def authenticated(self) -> bytes:
        """Return what ``manifest_mac`` is computed of: all the other fields."""
        return msgspec.msgpack.encode(msgspec.structs.astuple(self)[:-1])


def sealed_facts(vault_id: bytes, credential: Credential) -> bytes:
    """Return what a value is bound to: the vault, and every field of its description."""
    return msgspec.msgpack.encode((FORMAT, vault_id, *_described(credential)))


def attributes_text(attributes: dict[str, str]) -> str:
    """Return the one text of these attributes that is stored: JSON with sorted keys.

    Raises:
        MisuseError: an attribute is not text that UTF-8 can hold.
    """
    try:
        return msgspec.json.encode(attributes, order="sorted").decode()
    except UnicodeEncodeError as error:
        raise MisuseError("an attribute of a record is not valid Unicode text") from error


def name_of(credential_id: str) -> str:
    """Return how messages call a record."""
    return f"the record {credential_id} of the vault"


def _described(credential: Credential) -> tuple[str | int, ...]:
    """The clear columns of a row, in their order."""
    return (*msgspec.structs.astuple(credential)[:-1], attributes_text(credential.attributes))
