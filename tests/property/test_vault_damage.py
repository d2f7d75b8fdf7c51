"""Damage never gives a wrong secret: the right one, or an IntegrityError."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_broker.errors import IntegrityError
from agent_broker.vault.file import Vault
from agent_broker.vault.record import Row
from agent_broker.vault.secret import Secret
from tests.fakes.clock import FakeClock

ROOT = bytes(range(32))
SECRETS = {
    "claude/1000/api-key": b"sk-test-of-the-first",
    "claude/1000/oauth": b'{"accessToken": "sk-test-of-the-second"}' * 40,
    "claude/1007/api-key": b"sk-test-of-another-user",
}
COLUMNS = Row.__struct_fields__


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("vault") / "vault.sqlite3"
    vault = Vault.open(path, Secret(ROOT), FakeClock())
    for credential_id, value in SECRETS.items():
        agent, owner, _ = credential_id.split("/")
        vault.put(
            credential_id,
            kind="anthropic-api-key",
            agent=agent,
            owner_uid=int(owner),
            attributes={"path": "/home/u/.claude.json"},
            secret=Secret(value),
        )
    vault.close()
    return path


@contextmanager
def opened(path: Path) -> Iterator[Vault]:
    vault = Vault.open(path, Secret(ROOT), FakeClock())
    try:
        yield vault
    finally:
        vault.close()


def flipped(value, bit: int):
    """The value with one bit flipped, of the same SQLite type."""
    if isinstance(value, int):
        return value ^ (1 << bit % 63)
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(
    credential_id=st.sampled_from(sorted(SECRETS)),
    column=st.sampled_from(COLUMNS),
    bit=st.integers(min_value=0, max_value=8 * 2000),
)
def test_a_bit_flipped_in_a_row_names_the_record_and_harms_no_other(pristine, credential_id, column, bit):
    path = pristine.with_name("row.sqlite3")
    shutil.copy(pristine, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        ((value,),) = connection.execute(f"SELECT {column} FROM records WHERE id = ?", (credential_id,))  # noqa: S608 - our own columns
        storage = {int: "INTEGER", str: "TEXT", bytes: "BLOB"}[type(value)]
        change = f"UPDATE records SET {column} = CAST(? AS {storage}) WHERE id = ?"  # noqa: S608 - our own columns
        connection.execute(change, (flipped(value, bit), credential_id))
    with opened(path) as vault:
        for ask in (vault.unseal, vault.describe):
            with pytest.raises(IntegrityError, match=credential_id):
                ask(credential_id)
        with pytest.raises(IntegrityError):
            vault.list()
        for other in SECRETS.keys() - {credential_id}:
            assert vault.unseal(other).reveal() == SECRETS[other]


@settings(max_examples=800, deadline=None)
@given(data=st.data())
def test_bytes_changed_anywhere_in_the_file(pristine, data):
    content = bytearray(pristine.read_bytes())
    for _ in range(data.draw(st.integers(1, 4), label="changes")):
        position = data.draw(st.integers(0, len(content) - 1), label="position")
        content[position] ^= data.draw(st.integers(1, 255), label="mask")
    _nothing_wrong_comes_out(pristine.with_name("file.sqlite3"), bytes(content))


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, 40_000))
@example(length=0)
@example(length=4096)
def test_a_file_that_was_cut_short(pristine, length):
    _nothing_wrong_comes_out(pristine.with_name("short.sqlite3"), pristine.read_bytes()[:length])


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 1023), mask=st.integers(1, 255))
@example(position=18, mask=3)  # file format write version
@example(position=19, mask=3)  # file format read version
@example(position=56, mask=3)  # text encoding
@example(position=100, mask=8)  # type of the schema's page
@example(position=104, mask=2)  # number of its cells
def test_bytes_changed_in_the_headers_of_sqlite(pristine, position, mask):
    content = bytearray(pristine.read_bytes())
    content[position] ^= mask
    _nothing_wrong_comes_out(pristine.with_name("head.sqlite3"), bytes(content))


def _nothing_wrong_comes_out(path: Path, content: bytes) -> None:
    for stale in path.parent.glob(path.name + "*"):
        stale.unlink()
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        with opened(path) as vault:
            for credential_id, value in SECRETS.items():
                _right_or_refused(vault, credential_id, value)
    except IntegrityError:
        return


def _right_or_refused(vault: Vault, credential_id: str, value: bytes) -> None:
    try:
        assert vault.unseal(credential_id).reveal() == value
        assert vault.describe(credential_id).attributes == {"path": "/home/u/.claude.json"}
    except IntegrityError as error:
        if credential_id not in str(error):
            raise
