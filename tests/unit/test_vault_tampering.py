"""What an attacker can do who can write the vault's file while no broker has it open (docs/vault-format.md)."""

import pytest

from agent_broker.errors import IntegrityError
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.vaults import KEY, OAUTH, ROOT, edit, put, reopening


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vault.sqlite3"


@pytest.fixture
def reopen(path, clock):
    with reopening(path, clock) as again:
        yield again


def test_exchanged_secrets_are_found(path, reopen):
    vault = reopen()
    put(vault, KEY, b"sk-test-1")
    put(vault, OAUTH, b"sk-test-2")
    vault.close()
    sealed = "key_nonce, wrapped_key, nonce, ciphertext"
    exchange = f"UPDATE records SET ({sealed}) = (SELECT {sealed} FROM records WHERE id = ?) WHERE id = ?"  # noqa: S608 - constants
    edit(path, exchange, OAUTH, KEY)
    vault = reopen()
    with pytest.raises(IntegrityError, match=KEY):
        vault.unseal(KEY)
    assert vault.unseal(OAUTH).reveal() == b"sk-test-2"


@pytest.mark.parametrize("then", ["replaced", "deleted"])
def test_an_older_row_put_back_is_found(path, reopen, then):
    put(reopen(), secret=b"sk-test-revoked")
    reopen().close()
    (old,) = edit(path, "SELECT * FROM records")
    vault = reopen()
    put(vault) if then == "replaced" else vault.delete(KEY)
    vault.close()
    edit(path, "INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", *old)
    vault = reopen()
    for ask in (vault.describe, vault.unseal):
        with pytest.raises(IntegrityError, match=KEY):
            ask(KEY)
    with pytest.raises(IntegrityError, match=KEY):
        vault.list()
    vault.delete(KEY)
    assert vault.list() == ()


def test_an_older_row_with_the_current_version_number_is_found_too(path, reopen):
    vault = reopen()
    put(vault, secret=b"sk-test-revoked")
    vault.close()
    (old,) = edit(path, "SELECT * FROM records")
    old = list(old)
    put(reopen())
    reopen().close()
    old[4] = 2  # version
    edit(path, "INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", *old)
    with pytest.raises(IntegrityError, match=KEY):
        reopen().unseal(KEY)


def test_a_removed_row_is_found(path, reopen):
    put(reopen())
    reopen().close()
    edit(path, "DELETE FROM records")
    vault = reopen()
    with pytest.raises(IntegrityError, match=KEY):
        vault.unseal(KEY)
    assert put(vault).version == 2  # the operator enrols again


def test_a_row_of_another_vault_is_found(path, tmp_path, clock, reopen):
    (tmp_path / "other").mkdir()
    other = Vault.open(tmp_path / "other" / "vault.sqlite3", Secret(ROOT), clock)
    put(other, secret=b"sk-test-of-another")
    other.close()
    (foreign,) = edit(tmp_path / "other" / "vault.sqlite3", "SELECT * FROM records")
    put(reopen())
    reopen().close()
    edit(path, "INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", *foreign)
    with pytest.raises(IntegrityError, match=KEY):
        reopen().unseal(KEY)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM header; END",
        "CREATE VIEW v AS SELECT * FROM records",
        "CREATE INDEX i ON records (kind)",
        "ALTER TABLE records ADD COLUMN more TEXT",
        "DROP TABLE records",
    ],
)
def test_another_schema_is_refused(path, reopen, statement):
    put(reopen())
    reopen().close()
    edit(path, statement)
    with pytest.raises(IntegrityError, match="tables are others"):
        reopen()


@pytest.mark.parametrize(
    "change",
    [
        "generation = generation - 1",
        "manifest = CAST('{}' AS BLOB)",
        "manifest_mac = randomblob(32)",
        "vault_id = randomblob(16)",
        "key_check = randomblob(32)",
        "salt = randomblob(32)",
        "format = 2",
    ],
)
def test_a_changed_header_is_refused(path, reopen, change):
    put(reopen())
    reopen().close()
    edit(path, f"UPDATE header SET {change}")  # noqa: S608 - constants of this test
    with pytest.raises(IntegrityError):
        reopen()


@pytest.mark.parametrize("statement", ["DELETE FROM header", "INSERT INTO header SELECT * FROM header"])
def test_there_is_one_header(path, reopen, statement):
    put(reopen())
    reopen().close()
    edit(path, statement)
    with pytest.raises(IntegrityError, match="header"):
        reopen()


def test_a_rollback_of_the_whole_file_shows_in_the_generation_only(path, reopen):
    put(reopen(), secret=b"sk-test-revoked")
    reopen().close()
    old = path.read_bytes()
    vault = reopen()
    put(vault)
    newest = vault.generation
    vault.close()
    path.write_bytes(old)
    vault = reopen()
    assert vault.unseal(KEY).reveal() == b"sk-test-revoked"  # said in docs/vault-format.md
    assert vault.generation < newest
