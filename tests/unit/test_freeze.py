import os
import stat

import pytest

from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.grant import freeze as module
from agent_broker.grant.freeze import FreezeList
from tests.fakes.clock import FakeClock
from tests.fakes.lineage_records import a_lineage, a_principal
from tests.fakes.small_disk import fill, small_disk

EPOCH = "epoch-1"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "frozen.json"


@pytest.fixture
def freezes(path, clock):
    return FreezeList(path, clock)


def test_nobody_is_frozen_at_first(freezes, path):
    assert freezes.reason_for(a_lineage(1, 2, 3), EPOCH, a_principal()) is None
    assert freezes.list() == ()
    assert not path.exists()


def test_a_frozen_process_freezes_itself_and_its_descendants_but_not_its_parents(freezes):
    freezes.freeze_processes(EPOCH, [5], "opened a decoy")
    assert freezes.reason_for(a_lineage(5, 4), EPOCH, None) == "opened a decoy"
    assert freezes.reason_for(a_lineage(9, 8, 5, 4), EPOCH, a_principal()) == "opened a decoy"
    assert freezes.reason_for(a_lineage(4, 3), EPOCH, a_principal()) is None


def test_process_numbers_mean_nothing_in_another_epoch(freezes, path, clock):
    freezes.freeze_processes(EPOCH, [5], "opened a decoy")
    assert freezes.reason_for(a_lineage(5), "epoch-2", None) is None
    assert FreezeList(path, clock).reason_for(a_lineage(5), EPOCH, None) == "opened a decoy"
    freezes.freeze_processes("epoch-2", [6], "again")
    assert [freeze.epoch for freeze in freezes.list()] == ["epoch-2"]


def test_a_frozen_agent_is_frozen_over_epochs_and_restarts(freezes, path, clock):
    freezes.freeze_agent("claude", 1000, "asked by the operator")
    freezes.freeze_processes("epoch-2", [5], "another")
    for each in (freezes, FreezeList(path, clock)):
        assert each.reason_for(a_lineage(1), "epoch-3", a_principal()) == "asked by the operator"
        assert each.reason_for(a_lineage(1), "epoch-3", a_principal(owner_uid=1001)) is None
        assert each.reason_for(a_lineage(1), "epoch-3", a_principal(agent="codex")) is None
        assert each.reason_for(a_lineage(1), "epoch-3", None) is None


def test_an_agent_can_be_frozen_for_every_owner(freezes):
    freezes.freeze_agent("claude", None, "all of them")
    assert freezes.reason_for((), EPOCH, a_principal(owner_uid=0)) == "all of them"
    assert freezes.reason_for((), EPOCH, a_principal(owner_uid=1001)) == "all of them"
    assert freezes.thaw_agent("claude", 1000) == 0
    assert freezes.reason_for((), EPOCH, a_principal()) == "all of them"
    assert freezes.thaw_agent("claude", None) == 1
    assert freezes.reason_for((), EPOCH, a_principal()) is None


def test_two_freezes_are_lifted_one_by_one(freezes, path, clock):
    first = freezes.freeze_agent("claude", 1000, "first")
    second = freezes.freeze_agent("claude", 1000, "second")
    assert freezes.thaw(second.id)
    assert freezes.reason_for((), EPOCH, a_principal()) == "first"
    assert not freezes.thaw(second.id)
    assert freezes.thaw(first.id)
    assert FreezeList(path, clock).list() == ()


def test_an_id_is_never_given_twice(freezes, path, clock):
    first = freezes.freeze_agent("claude", 1000, "first")
    freezes.thaw(first.id)
    again = FreezeList(path, clock).freeze_agent("claude", 1000, "second")
    assert again.id > first.id


def test_thaw_all(freezes, path, clock):
    freezes.freeze_agent("claude", 1000, "first")
    freezes.freeze_processes(EPOCH, [5, 6], "second")
    assert freezes.thaw_all() == 2
    assert freezes.thaw_all() == 0
    assert FreezeList(path, clock).list() == ()


def test_the_list_says_when_and_why_in_bounded_words(freezes, clock):
    clock.advance_s(5)
    freeze = freezes.freeze_processes(EPOCH, [5, 5, 6], "x" * 1000)
    assert freezes.list() == (freeze,)
    assert (freeze.since_ns, freeze.proc_ids, len(freeze.reason)) == (clock.wall, (5, 6), 200)
    assert freeze.reason == "x" * 197 + "..."
    assert freezes.freeze_processes(EPOCH, [7], "y" * 200).reason == "y" * 200


def test_freezing_what_is_frozen_writes_nothing(freezes, path):
    first = freezes.freeze_processes(EPOCH, [5, 6], "first")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert freezes.freeze_processes(EPOCH, [6], "again") == first
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert freezes.freeze_processes(EPOCH, [6, 7], "more") != first


def test_more_than_it_can_hold_freezes_everything(freezes, path, clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_PROCESSES", 10)
    freezes.freeze_processes(EPOCH, range(10), "some")
    assert freezes.reason_for(a_lineage(99), EPOCH, a_principal()) is None
    freezes.freeze_processes(EPOCH, [10], "one more")
    for each in (freezes, FreezeList(path, clock)):
        assert "everything is" in each.reason_for(a_lineage(99), EPOCH, a_principal())
    freezes.thaw_all()
    assert freezes.reason_for(a_lineage(99), EPOCH, a_principal()) is None


def test_the_file_is_private(freezes, path):
    freezes.freeze_agent("claude", 1000, "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o620)
    with pytest.raises(IntegrityError, match="0600"):
        FreezeList(path)
    path.chmod(0o600)
    os.chown(path, 12345, 0)
    with pytest.raises(IntegrityError, match="0600"):
        FreezeList(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"freezes": 1}', b'{"format": 2}', b'{"format": 1, "more": 1}', b'{"format\xff": 1}']
)
def test_a_file_that_is_no_list_thaws_nobody(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IntegrityError, match="not a list of freezes"):
        FreezeList(path)


def test_a_link_is_refused(path, freezes):
    freezes.freeze_agent("claude", 1000, "x")
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    with pytest.raises(UnavailableError, match="can't be read"):
        FreezeList(path)


def test_a_full_disk_freezes_all_the_same_and_thaws_nobody(tmp_path, clock):
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "frozen.json"
        freezes = FreezeList(path, clock)
        stored = freezes.freeze_agent("claude", 1000, "stored")
        filler = fill(disk)
        with pytest.raises(UnavailableError, match="No space"):
            freezes.freeze_processes(EPOCH, [5], "only in memory")
        assert freezes.reason_for(a_lineage(5), EPOCH, None) == "only in memory"
        with pytest.raises(UnavailableError, match="No space"):
            freezes.thaw(stored.id)
        assert freezes.reason_for((), EPOCH, a_principal()) == "stored"
        assert FreezeList(path, clock).list() == (stored,)
        filler.unlink()
        freezes.freeze_agent("codex", None, "room again")
        assert len(FreezeList(path, clock).list()) == 3
        assert sorted(each.name for each in disk.iterdir()) == ["frozen.json"]
