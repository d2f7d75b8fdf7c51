"""The journal of a transaction: private, durable, one at a time."""

import multiprocessing
import os

import pytest

from agent_broker.enroll.journal import FileRecord, Transaction, TransactionFolder
from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.ids import AgentName, Uid

TRANSACTION = Transaction(
    id="abc",
    state="sealing",
    agent=AgentName("claude"),
    owner_uid=Uid(1000),
    owner_gid=1000,
    owner_groups=(1000,),
    owner_name="u",
    home="/home/u",
    started_ns=1,
    files=(FileRecord(".claude.json", None, None, None, put_back=True),),
    moved=(),
)


def test_it_is_written_found_and_forgotten(tmp_path):
    with TransactionFolder(tmp_path / "enroll") as journal:
        assert journal.find(TRANSACTION.agent, TRANSACTION.owner_uid) is None
        journal.write(TRANSACTION)
        assert journal.find(TRANSACTION.agent, TRANSACTION.owner_uid) == TRANSACTION
        assert list(journal.all()) == [TRANSACTION]
        assert journal.find(TRANSACTION.agent, Uid(1001)) is None
        journal.forget(TRANSACTION)
        journal.forget(TRANSACTION)
        assert list(journal.all()) == []


def test_nobody_else_can_read_it(tmp_path):
    with TransactionFolder(tmp_path / "enroll") as journal:
        journal.write(TRANSACTION)
    assert (tmp_path / "enroll").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "enroll/claude-1000.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_can_enter_is_refused(tmp_path, mode):
    (tmp_path / "enroll").mkdir()
    (tmp_path / "enroll").chmod(mode)
    with pytest.raises(IntegrityError, match="root's alone"), TransactionFolder(tmp_path / "enroll"):
        pass


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "enroll").symlink_to("real")
    with pytest.raises(UnavailableError), TransactionFolder(tmp_path / "enroll"):
        pass


def test_a_second_transaction_is_refused_while_one_works(tmp_path):
    with (
        TransactionFolder(tmp_path),
        pytest.raises(UnavailableError, match="another enroll or unenroll is at work"),
        TransactionFolder(tmp_path),
    ):
        pass
    with TransactionFolder(tmp_path):
        pass


def _hold(folder, held, release):
    with TransactionFolder(folder):
        held.set()
        release.wait()
        os._exit(9)  # as a kill: no handler runs


def test_a_killed_one_gives_the_lock_back(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held, release))
    holder.start()
    held.wait()
    with pytest.raises(UnavailableError), TransactionFolder(tmp_path):
        pass
    release.set()
    holder.join()
    with TransactionFolder(tmp_path):
        pass


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b'{"id": "x", "unknown": 1}'])
def test_a_damaged_journal_is_named(tmp_path, text):
    with TransactionFolder(tmp_path) as journal:
        (tmp_path / "claude-1000.json").write_bytes(text)
        with pytest.raises(IntegrityError, match=r"claude-1000\.json"):
            journal.find(TRANSACTION.agent, TRANSACTION.owner_uid)


def test_an_error_of_the_disk_is_ours_when_it_leaves(tmp_path):
    with pytest.raises(UnavailableError, match="No space left"), TransactionFolder(tmp_path):
        raise OSError(28, "No space left on device", "/x")


def test_temporary_names_are_hidden_and_its_own():
    names = {TRANSACTION.temporary(".claude/.credentials.json", purpose) for purpose in ("new", "old")}
    assert names == {".credentials.json.agent-broker-abc-new", ".credentials.json.agent-broker-abc-old"}
