"""The vault: one file of sealed records, of which each can be told to be what was stored.

The law of this module:

1. A value is sealed with all that describes it (id, kind, agent, owner, version, times, attributes, the vault's own
   id), so a row that was relabelled or swapped does not unseal (``envelope``).
2. The header holds a *manifest*: the version and the SHA-256 of every row, authenticated under the root key. So a row
   that was removed, added, or put back in an older version is found, although it was sealed by us.
3. The manifest is read once, at open, and then lives in memory: while a process holds the vault, a rollback of the
   whole file is found too. Across two runs it is not (docs/vault-format.md, "What an attacker can do").
4. What is damaged is named, and the other records stay usable.
5. A change is durable when the call returns, or did not happen.
6. After ``erase`` the file holds nothing, sealed or not, of what was deleted or replaced.
"""

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from agent_broker.clock import Clock
from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.vault.database import Database, create
from agent_broker.vault.envelope import SALT_BYTES, Keys, damaged, equal
from agent_broker.vault.record import (
    FORMAT,
    Credential,
    Header,
    Manifest,
    Row,
    Stored,
    UnknownCredentialError,
    name_of,
    sealed_facts,
)
from agent_broker.vault.secret import Secret

__all__ = ["Credential", "UnknownCredentialError", "Vault"]

MAX_SECRET_BYTES: Final = 16 << 20  # the longest file of a user's that an enrolment keeps

_SELECT = (
    "SELECT id, kind, agent, owner_uid, version, created_ns, updated_ns, attributes,"
    " key_nonce, wrapped_key, nonce, ciphertext FROM records WHERE id = ?"
)
_INSERT = "INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_SET_MANIFEST = "UPDATE header SET generation = ?, manifest = ?, manifest_mac = ?"


class Vault:
    """The open vault. One process holds it at a time; it is not for several threads."""

    def __init__(self, database: Database, keys: Keys, header: Header, clock: Clock) -> None:
        """See ``open``; the header was checked."""
        self._database = database
        self._keys = keys
        self._header = header
        self._clock = clock
        self._manifest = msgspec.json.decode(header.manifest, type=Manifest)

    @classmethod
    def open(cls, path: Path, root_key: Secret, clock: Clock) -> "Vault":
        """Open the vault; an empty one is made if there is no file.

        Raises:
            IntegrityError: the root key is another one, the header was changed, or the file is open to others.
            UnavailableError: another process holds the vault, or the disk refuses.
            MisuseError: the root key has not 32 bytes.
        """
        if not os.path.lexists(path):
            header = _first_header(root_key)
            create(path, ("INSERT INTO header VALUES (?,?,?,?,?,?,?)", msgspec.structs.astuple(header)))
        database = Database(path)
        try:
            header = _read_header(database)
            return cls(database, _checked_keys(root_key, header, path), header, clock)
        except BaseException:
            database.close()
            raise

    @property
    def generation(self) -> int:
        """How often the vault was changed. Kept elsewhere and compared, it shows a rollback of the whole file."""
        return self._header.generation

    def put(  # noqa: PLR0913 - one record, named arguments only
        self,
        credential_id: CredentialId,
        *,
        kind: str,
        agent: AgentName,
        owner_uid: Uid,
        attributes: dict[str, str],
        secret: Secret,
    ) -> Credential:
        """Store a secret; a record of the same id is replaced by the next version. Durable on return.

        Raises:
            MisuseError: a malformed id or kind, or too long a secret or attributes.
            UnavailableError: the disk refused; the vault is as it was.
        """
        now_ns = self._clock.wall_ns()
        version, created_ns = self._next_version(credential_id, now_ns)
        credential = Credential(credential_id, kind, agent, owner_uid, version, created_ns, now_ns, attributes)
        credential.require_well_formed()
        if len(secret) > MAX_SECRET_BYTES:
            raise MisuseError(f"the secret of {credential_id} is longer than {MAX_SECRET_BYTES} bytes")
        row = Row.of(credential, self._keys.seal(secret, sealed_facts(self._header.vault_id, credential)))
        manifest = {**self._manifest, credential_id: (version, row.digest())}
        self._commit(manifest, _INSERT, *msgspec.structs.astuple(row))
        return credential

    def describe(self, credential_id: CredentialId) -> Credential:
        """Return what is known of a record.

        Raises:
            UnknownCredentialError: there is none.
            IntegrityError: the record is not what was stored.
        """
        return self._row(credential_id).credential()

    def unseal(self, credential_id: CredentialId) -> Secret:
        """Return a record's secret.

        Raises:
            UnknownCredentialError: there is none.
            IntegrityError: the record is not what was stored.
        """
        return self.unseal_stored(self.find(credential_id))

    def find(self, credential_id: CredentialId) -> Stored:
        """Return a record as it is now, described and still sealed. Raises as ``describe``."""
        row = self._row(credential_id)
        return Stored(row.credential(), row.sealed())

    def unseal_stored(self, stored: Stored) -> Secret:
        """Return the secret of a record that was found before.

        Raises:
            IntegrityError: the record is not what was stored.
        """
        facts = sealed_facts(self._header.vault_id, stored.credential)
        return self._keys.unseal(stored.sealed, facts, name_of(stored.credential.id))

    def list(self) -> tuple[Credential, ...]:
        """Return what is known of all records, ordered by id.

        Raises:
            IntegrityError: some records are not what was stored, or were not stored by us; it names them all.
        """
        found = []
        bad = [each for each in self._ids_in_file() if each not in self._manifest]
        for credential_id in sorted(self._manifest):
            try:
                found.append(self.describe(credential_id))
            except IntegrityError:
                bad.append(credential_id)
        if bad:
            raise damaged(", ".join(map(name_of, sorted(bad))))
        return tuple(found)

    def list_of(self, agent: AgentName, owner_uid: Uid) -> tuple[Credential, ...]:
        """Return what is known of the records of one agent, or tool, of one user, ordered by id.

        Raises:
            IntegrityError: one of them is not what was stored.
        """
        mine = sorted(each for each in self._manifest if each.startswith(f"{agent}/{owner_uid}/"))
        return tuple(map(self.describe, mine))

    def delete(self, credential_id: CredentialId) -> None:
        """Remove a record, also a damaged one. Durable on return.

        Raises:
            UnknownCredentialError: there is none.
            UnavailableError: the disk refused; the vault is as it was.
        """
        if credential_id not in self._manifest and credential_id not in self._ids_in_file():
            raise UnknownCredentialError(credential_id)
        manifest = {key: value for key, value in self._manifest.items() if key != credential_id}
        self._commit(manifest, "DELETE FROM records WHERE id = ?", credential_id)

    def erase(self) -> None:
        """Take what is left of deleted and replaced records out of the file. Durable on return, may be repeated.

        Raises:
            UnavailableError: the disk refused (it needs room for a second copy); every record is as it was.
        """
        self._database.compact()

    def close(self) -> None:
        """Release the file and forget the keys."""
        self._keys.wipe()
        self._database.close()

    def _row(self, credential_id: CredentialId) -> Row:
        """The row, if it is the one that the manifest names."""
        name = name_of(credential_id)
        rows = self._database.rows(name, _SELECT, credential_id)
        if credential_id not in self._manifest:
            raise damaged(name) if rows else UnknownCredentialError(credential_id)
        try:
            row = msgspec.convert(rows[0] if rows else (), type=Row)
        except msgspec.ValidationError as error:
            raise damaged(name) from error
        if (row.version, row.digest()) != self._manifest[credential_id]:
            raise damaged(name)
        return row

    def _next_version(self, credential_id: CredentialId, now_ns: int) -> tuple[int, int]:
        """Version and time of creation of the record that comes next under this id."""
        if credential_id not in self._manifest:
            return 1, now_ns
        version = self._manifest[credential_id][0] + 1
        try:
            return version, self._row(credential_id).created_ns
        except IntegrityError:
            return version, now_ns  # a damaged record may be replaced; its own times are not believed

    def _commit(self, manifest: Manifest, change: str, *values: Any) -> None:
        header = _with_manifest(self._header, self._keys, manifest)
        state = (header.generation, header.manifest, header.manifest_mac)
        self._database.write((change, values), (_SET_MANIFEST, state))
        self._header, self._manifest = header, manifest

    def _ids_in_file(self) -> tuple[str, ...]:
        return tuple(row[0] for row in self._database.rows("the vault's table of records", "SELECT id FROM records"))


def _first_header(root_key: Secret) -> Header:
    salt = os.urandom(SALT_BYTES)
    keys = Keys(root_key, salt)
    blank = Header(FORMAT, os.urandom(16), salt, keys.check, -1, b"", b"")
    return _with_manifest(blank, keys, {})


def _with_manifest(header: Header, keys: Keys, manifest: Manifest) -> Header:
    text = msgspec.json.encode(manifest, order="sorted")
    header = msgspec.structs.replace(header, generation=header.generation + 1, manifest=text)
    return msgspec.structs.replace(header, manifest_mac=keys.authenticate(header.authenticated()))


def _read_header(database: Database) -> Header:
    name = f"the header of the vault {database.path}"
    rows = database.rows(name, "SELECT * FROM header")
    try:
        header = msgspec.convert(rows[0] if len(rows) == 1 else (), type=Header)
    except msgspec.ValidationError as error:
        raise damaged(name) from error
    if header.format != FORMAT:
        raise IntegrityError(
            f"the vault {database.path} says it has format {header.format}; this version reads {FORMAT}",
            next_step="use the version of agent-broker that wrote it, or restore the vault from a backup",
        )
    return header


def _checked_keys(root_key: Secret, header: Header, path: Path) -> Keys:
    keys = Keys(root_key, header.salt)
    if not equal(keys.check, header.key_check):
        raise IntegrityError(
            f"the root key does not open the vault {path}: it is another vault's, or the vault's header was changed",
            next_step="bring back the root key that this vault was made with (agent-broker doctor names its place)",
        )
    if not equal(keys.authenticate(header.authenticated()), header.manifest_mac):
        raise damaged(f"the header of the vault {path}")
    return keys
