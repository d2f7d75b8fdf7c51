import os
import signal
import subprocess
import sys
import traceback

import pytest

from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.vault.file import UnknownCredentialError, Vault
from agent_broker.vault.secret import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.small_disk import fill, small_disk
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


def test_a_secret_survives_reopening(reopen):
    put(reopen(), attributes="are text")
    vault = reopen()
    assert vault.unseal(KEY).reveal() == b"sk-test-1"
    assert vault.describe(KEY).attributes == {"attributes": "are text"}


def test_a_replacement_is_the_next_version(reopen, clock):
    vault = reopen()
    first = put(vault)
    clock.advance_s(60)
    second = put(vault, secret=b"sk-test-2")
    assert (first.version, second.version) == (1, 2)
    assert (second.created_ns, second.updated_ns) == (first.created_ns, clock.wall_ns())
    assert vault.describe(KEY) == second
    assert reopen().unseal(KEY).reveal() == b"sk-test-2"


def test_records_are_listed_in_order_without_secrets(reopen):
    vault = reopen()
    put(vault, OAUTH, b"sk-test-oauth", kind="anthropic-oauth")
    put(vault, "claude/1000/original/1", b"sk-test-file", kind="original-file", path="/home/u/.claude.json")
    put(vault)
    listed = vault.list()
    assert [credential.id for credential in listed] == [KEY, OAUTH, "claude/1000/original/1"]
    assert "sk-test" not in repr(listed)


def test_one_users_records_of_one_agent_are_listed_whatever_became_of_the_others(reopen):
    vault = reopen()
    put(vault)
    put(vault, OAUTH, b"sk-test-oauth", kind="anthropic-oauth")
    put(vault, "claude/10001/api-key")
    put(vault, "claude-code/1000/api-key")
    vault._database.write(("DELETE FROM records WHERE id = ?", ("claude/10001/api-key",)))

    assert [credential.id for credential in vault.list_of("claude", 1000)] == [KEY, OAUTH]
    with pytest.raises(IntegrityError):
        vault.list_of("claude", 10001)


def test_a_deleted_record_is_gone(reopen):
    vault = reopen()
    put(vault)
    vault.delete(KEY)
    assert vault.list() == ()
    vault = reopen()
    assert vault.list() == ()
    for ask in (vault.describe, vault.unseal, vault.delete):
        with pytest.raises(UnknownCredentialError):
            ask(KEY)


def test_a_closed_vault_is_misused_not_damaged(reopen):
    vault = reopen()
    put(vault)
    reopen()
    with pytest.raises(MisuseError, match="closed"):
        vault.unseal(KEY)


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20])
def test_secrets_of_any_size_and_content(reopen, size):
    value = os.urandom(size)
    put(reopen(), secret=value)
    assert reopen().unseal(KEY).reveal() == value


@pytest.mark.parametrize(
    ("credential_id", "agent", "owner_uid"),
    [
        ("claude/1000/api-key", "codex", 1000),
        ("claude/1000/api-key", "claude", 1001),
        ("claude/1000", "claude", 1000),
        ("claude/1000/", "claude", 1000),
        ("claude/1000/../../x", "claude", 1000),
        ("claude/1000/a\nb", "claude", 1000),
        ("claude/1000/api-key\n", "claude", 1000),
        ("Claude/1000/x", "Claude", 1000),
        ("claude/-1/x", "claude", -1),
    ],
)
def test_malformed_ids_are_refused(reopen, credential_id, agent, owner_uid):
    vault = reopen()
    with pytest.raises(MisuseError, match="AGENT/OWNER_UID/NAME"):
        vault.put(credential_id, kind="k", agent=agent, owner_uid=owner_uid, attributes={}, secret=Secret(b""))
    assert vault.generation == 0


def test_other_malformed_records_are_refused(reopen):
    vault = reopen()
    with pytest.raises(MisuseError, match="kind"):
        put(vault, kind="Not A Kind")
    with pytest.raises(MisuseError, match="Unicode"):
        put(vault, path="/home/\udcff")
    with pytest.raises(MisuseError, match="attributes"):
        put(vault, path="x" * 70_000)
    with pytest.raises(MisuseError, match="longer than"):
        put(vault, secret=bytes((16 << 20) + 1))
    assert vault.list() == ()


def test_files_are_private_also_with_a_careless_umask(path, reopen):
    before = os.umask(0)
    try:
        put(reopen())
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"vault.sqlite3": 0o600, "vault.sqlite3-wal": 0o600}


def test_replaced_and_deleted_ciphertexts_do_not_stay_in_the_files(path, reopen):
    vault = reopen()
    put(vault, attribute="marker-one")
    put(vault, attribute="marker-two")
    vault.delete(KEY)
    content = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"marker-" not in content


def test_no_secret_is_in_the_files(path, reopen):
    vault = reopen()
    put(vault, secret=b"sk-test-a-plaintext")
    content = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert KEY.encode() in content
    assert b"sk-test-a-plaintext" not in content
    assert ROOT not in content


def test_another_root_key_is_told_apart_from_damage(reopen):
    put(reopen())
    with pytest.raises(IntegrityError, match="root key does not open"):
        reopen(bytes(32))
    assert reopen().unseal(KEY).reveal() == b"sk-test-1"


def test_one_process_at_a_time(path, clock, reopen):
    put(reopen())
    with pytest.raises(UnavailableError, match="another process"):
        Vault.open(path, Secret(ROOT), clock)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_open_to_others_is_refused(path, reopen, mode):
    put(reopen())
    path.chmod(mode)
    with pytest.raises(IntegrityError, match="0600"):
        reopen()


def test_a_file_of_another_user_is_refused(path, reopen):
    put(reopen())
    os.chown(path, 12345, 12345)
    with pytest.raises(IntegrityError, match="0600"):
        reopen()


def test_a_link_is_refused(path, reopen):
    put(reopen())
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    with pytest.raises(UnavailableError, match="can't be opened"):
        reopen()


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0", os.urandom(8192)])
def test_a_file_that_is_no_vault_is_refused_and_kept(path, reopen, content):
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IntegrityError):
        reopen()
    assert path.read_bytes()[: len(content)] == content


def test_a_missing_folder_is_unavailable(tmp_path, clock):
    with pytest.raises(UnavailableError, match="can't be made"):
        Vault.open(tmp_path / "none" / "vault.sqlite3", Secret(ROOT), clock)


def test_the_draft_of_a_killed_creation_is_replaced(path, reopen):
    path.with_name(path.name + ".new").write_bytes(b"half a database")
    put(reopen())
    assert {each.name for each in path.parent.iterdir()} == {"vault.sqlite3", "vault.sqlite3-wal"}


# -- failure ------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from agent_broker.clock import SystemClock
from agent_broker.vault.file import Vault
from agent_broker.vault.secret import Secret
vault = Vault.open(Path(sys.argv[1]), Secret(bytes(range(32))), SystemClock())
for number in range(100_000):
    secret = Secret(b"sk-test-%d" % number)
    vault.put("claude/1000/api-key", kind="k", agent="claude", owner_uid=1000, attributes={}, secret=secret)
    print(number, flush=True)
"""


@pytest.mark.parametrize("writes", [1, 7, 40])
def test_what_was_put_before_a_kill_is_there(path, reopen, writes):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    for _ in range(writes):
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0].split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    found = int(reopen().unseal(KEY).reveal().removeprefix(b"sk-test-"))
    assert found in {acknowledged, acknowledged + 1}


def test_a_full_disk_changes_nothing(tmp_path, clock):
    with small_disk(tmp_path / "disk") as disk:
        vault = Vault.open(disk / "vault.sqlite3", Secret(ROOT), clock)
        put(vault)
        filler = fill(disk)
        with pytest.raises(UnavailableError, match="disk is full"):
            put(vault, secret=os.urandom(100_000))
        assert vault.unseal(KEY).reveal() == b"sk-test-1"
        assert vault.describe(KEY).version == 1
        filler.unlink()
        assert put(vault, secret=b"sk-test-2").version == 2
        vault.close()
        vault = Vault.open(disk / "vault.sqlite3", Secret(ROOT), clock)
        assert vault.unseal(KEY).reveal() == b"sk-test-2"
        vault.close()


def test_a_disk_that_is_full_from_the_start_is_unavailable(tmp_path, clock):
    with small_disk(tmp_path / "disk") as disk:
        filler = fill(disk)
        with pytest.raises(UnavailableError, match="can't be made"):
            Vault.open(disk / "vault.sqlite3", Secret(ROOT), clock)
        filler.unlink()
        Vault.open(disk / "vault.sqlite3", Secret(ROOT), clock).close()


def test_no_error_shows_a_secret_or_the_root_key(path, reopen):
    put(reopen(), secret=b"sk-test-hidden")
    reopen().close()
    edit(path, "UPDATE records SET ciphertext = zeroblob(40)")
    vault = reopen()
    with pytest.raises(IntegrityError) as caught:
        vault.unseal(KEY)
    with pytest.raises(MisuseError) as misuse:
        put(vault, kind="Bad Kind", secret=b"sk-test-hidden")
    for error in (caught.value, misuse.value):
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = (line for line in trace.format() if "/tests/" not in line)
        assert "sk-test-hidden" not in "".join(frames)
        assert repr(ROOT)[2:-1] not in "".join(frames)


def test_a_disk_with_room_for_a_part_of_a_vault_leaves_none_behind(tmp_path, clock):
    """The header fits into the log, and not into the file: a half-made vault would be refused for ever after."""
    page_bytes, free, made = os.sysconf("SC_PAGESIZE"), 0, False
    while not made:
        with small_disk(tmp_path / "disk") as disk:
            filler = fill(disk)
            os.truncate(filler, filler.stat().st_size - free)
            try:
                Vault.open(disk / "vault.sqlite3", Secret(ROOT), clock).close()
                made = True
            except UnavailableError:
                pass
            filler.unlink()
            vault = Vault.open(disk / "vault.sqlite3", Secret(ROOT), clock)
            put(vault)
            vault.close()
        free += page_bytes
    assert free > 3 * page_bytes
