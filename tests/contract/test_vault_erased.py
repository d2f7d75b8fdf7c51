"""After an agent's records are removed, no byte of their sealed values is left in the vault's files."""

import os
import random
from pathlib import Path

import pytest

from agent_broker.daemon.enrolled import Enrolled
from agent_broker.errors import UnavailableError
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.small_disk import fill, small_disk
from tests.fakes.vaults import ROOT, put

PIECE_BYTES = 24
SIZES_BYTES = (20, 100, 300, 800, 1500, 5000, 40_000)
LEFT_BY_SECURE_DELETE = 19  # a seed with which SQLite's own secure_delete leaves pieces, at its 28th change


def pieces(vault: Vault) -> set[bytes]:
    """Every piece of every sealed value, as it lies in the file."""
    rows = vault._database.rows("test", "SELECT wrapped_key, ciphertext FROM records")
    return {
        sealed[at : at + PIECE_BYTES]
        for row in rows
        for sealed in row
        for at in range(0, len(sealed) - PIECE_BYTES, PIECE_BYTES)
    }


def raw(folder: Path) -> bytes:
    """Every file: the vault, its log, its journal, whatever is beside them."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def left(folder: Path, sealed: set[bytes]) -> int:
    data = raw(folder)
    return sum(piece in data for piece in sealed)


def change(vault: Vault, seed: int, changes: int) -> set[bytes]:
    """Put, replace and delete as chance says; return every piece that was ever in the file."""
    chance = random.Random(seed)  # noqa: S311 - a fixed order of changes, no secret
    seen: set[bytes] = set()
    there: set[str] = set()
    for _ in range(changes):
        name = f"{chance.choice(['claude', 'codex'])}/1000/n{chance.randrange(14)}"
        if chance.random() < 0.6:
            note = "a" * chance.randrange(100)
            put(vault, name, os.urandom(chance.choice(SIZES_BYTES)), kind="x", note=note)
            there.add(name)
        elif name in there:
            vault.delete(name)
            there.remove(name)
        seen |= pieces(vault)
    return seen


@pytest.mark.parametrize("seed", [LEFT_BY_SECURE_DELETE, 23, 1, 2])
def test_nothing_is_left_of_an_agent_that_was_removed(tmp_path: Path, seed: int) -> None:
    vault = Vault.open(tmp_path / "vault.sqlite3", Secret(ROOT), FakeClock())
    enrolled = Enrolled(tmp_path / "none", vault)
    seen = change(vault, seed, 40)
    enrolled.remove_records("claude", 1000)
    stay = pieces(vault)
    assert stay, "another agent's records stay, so the file is not simply empty"
    assert left(tmp_path, stay) > len(stay) // 2  # a piece may lie across two pages
    assert left(tmp_path, seen - stay) == 0
    enrolled.remove_records("codex", 1000)
    assert left(tmp_path, seen) == 0
    vault.close()
    assert left(tmp_path, seen) == 0
    assert Vault.open(tmp_path / "vault.sqlite3", Secret(ROOT), FakeClock()).list() == ()


def test_what_a_killed_removal_left_is_erased_by_the_next(tmp_path: Path) -> None:
    """Killed after the last record was deleted, before the file was written anew."""
    path = tmp_path / "vault.sqlite3"
    vault = Vault.open(path, Secret(ROOT), FakeClock())
    seen = change(vault, LEFT_BY_SECURE_DELETE, 40)
    for record in vault.list():
        if record.agent == "claude":
            vault.delete(record.id)
    seen -= pieces(vault)
    vault.close()
    reopened = Vault.open(path, Secret(ROOT), FakeClock())
    assert left(tmp_path, seen) > 0, "the test would show nothing"
    assert Enrolled(tmp_path / "none", reopened).remove_records("claude", 1000) == 0
    assert left(tmp_path, seen) == 0
    reopened.close()


def test_a_full_disk_says_so_and_loses_no_record(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        vault = Vault.open(disk / "vault.sqlite3", Secret(ROOT), FakeClock())
        put(vault, secret=os.urandom(300_000))
        gone = pieces(vault)
        put(vault, "codex/1000/api-key", os.urandom(300_000))
        stay = pieces(vault) - gone
        enrolled = Enrolled(disk / "none", vault)
        filler = fill(disk)
        with pytest.raises(UnavailableError, match="disk is full"):
            enrolled.remove_records("claude", 1000)
        filler.unlink()
        enrolled.remove_records("claude", 1000)
        assert left(disk, gone) == 0
        assert left(disk, stay) > len(stay) // 2
        assert [record.id for record in vault.list()] == ["codex/1000/api-key"]
        vault.close()
