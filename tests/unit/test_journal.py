import asyncio
import errno
import hashlib
import json
import os

import msgspec
import pytest

from agent_broker.audit.journal import GIVE_WAY_S, Journal, read, verify
from agent_broker.errors import MisuseError, UnavailableError
from tests.fakes.clock import FakeClock
from tests.fakes.journals import bodies, reopening, write
from tests.fakes.small_disk import fill, small_disk

NONE_YET = "0" * 64


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def reopen(path, clock):
    with reopening(path, clock) as again:
        yield again


def test_entries_are_numbered_timed_and_readable(path, reopen, clock):
    journal = reopen()
    assert write(journal, 2) == [1, 2]
    clock.advance_s(1)
    assert journal.append_now("other", {"text": "line\nbreak", "nested": {"list": [1, None, True, 2.5]}}) == 3
    first, _, last = read(path)
    assert (first.seq, first.kind, first.body, first.prev) == (1, "test", {"number": 0}, NONE_YET)
    assert last.time_ns == clock.wall_ns()
    assert last.body == {"text": "line\nbreak", "nested": {"list": [1, None, True, 2.5]}}
    assert [entry.seq for entry in read(path, after=2)] == [3]


def test_the_format_is_one_json_object_a_line_with_the_hash_of_the_line_before(path, reopen):
    write(reopen(), 3)
    lines = path.read_bytes().splitlines()
    previous = NONE_YET
    for number, line in enumerate(lines, 1):
        entry = json.loads(line)
        assert list(entry) == ["seq", "time_ns", "kind", "body", "prev"]
        assert (entry["seq"], entry["prev"]) == (number, previous)
        previous = hashlib.sha256(line).hexdigest()
    verification = verify(path)
    assert (verification.entries, verification.head, verification.unfinished_bytes) == (3, previous, 0)


def test_it_goes_on_after_reopening(path, reopen):
    write(reopen(), 2)
    assert write(reopen(), 2, first=2) == [3, 4]
    assert verify(path).entries == 4


def test_an_empty_journal_verifies(path, reopen):
    reopen()
    assert (verify(path).entries, verify(path).head) == (0, NONE_YET)
    assert list(read(path)) == []


def test_files_are_private(path, reopen):
    before = os.umask(0)
    try:
        write(reopen(), 1)
    finally:
        os.umask(before)
    assert {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {
        "audit.log": 0o600,
        "audit.log.head": 0o600,
    }


@pytest.mark.parametrize("body", [{"x": object()}, {"x": "\udcff"}, {"x": "y" * (1 << 20)}])
def test_what_is_no_json_is_refused_alone(path, reopen, body):
    journal = reopen()
    with pytest.raises(MisuseError):
        journal.append_now("test", body)
    with pytest.raises(MisuseError, match="ASCII"):
        journal.append_now("kind\udcff", {})
    write(journal, 1)
    assert verify(path).entries == 1


def test_a_closed_journal_takes_nothing(reopen):
    journal = reopen()
    journal.close()
    journal.close()
    with pytest.raises(UnavailableError, match="closed"):
        journal.append_now("test", {})


def test_one_writer_at_a_time(path, clock, reopen):
    reopen()
    with pytest.raises(UnavailableError, match="another process"):
        Journal.open(path, clock)


# -- the event loop ------------------------------------------------------------------------------------------


@pytest.fixture
def syncs(monkeypatch):
    """Counts fdatasync; the real one still runs."""
    calls = []
    real = os.fdatasync

    def counted(fd):
        calls.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", counted)
    return calls


async def test_entries_of_one_iteration_share_one_sync_in_order(path, reopen, syncs):
    journal = reopen()
    numbers = await asyncio.gather(*(journal.append("test", {"number": number}) for number in range(64)))
    assert numbers == list(range(1, 65))
    assert len(syncs) == 1
    assert bodies(path) == [{"number": number} for number in range(64)]


async def test_an_entry_is_on_the_disk_when_append_returns(path, reopen, syncs):
    journal = reopen()
    for number in range(3):
        await journal.append("test", {"number": number})
        assert len(syncs) == number + 1
        assert bodies(path)[-1] == {"number": number}


class Body(msgspec.Struct):
    number: int


async def test_the_disk_works_while_the_loop_has_a_turn_and_nobody_is_told_before_it_is_done(path, reopen, syncs):
    journal = reopen()
    waiting = asyncio.ensure_future(journal.append("test", {}))
    await asyncio.sleep(0)  # handed over
    await asyncio.sleep(0)  # written
    assert len(path.read_bytes().splitlines()) == 1
    assert not syncs
    assert not waiting.done()
    assert journal.head.seq == 0
    assert await waiting == 1
    assert len(syncs) == 1


async def test_a_disk_that_can_not_begin_early_is_waited_for_as_ever(path, reopen, syncs, monkeypatch):
    def fails(*_):
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "posix_fadvise", fails)
    assert await reopen().append("test", {}) == 1
    assert len(syncs) == 1


@pytest.mark.parametrize("tells", [True, False])
async def test_the_disk_gives_way_to_who_was_told_and_to_nobody_else(path, reopen, syncs, monkeypatch, tells):
    happened = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: happened.append("disk begins"))
    journal = reopen()
    meanwhile = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(GIVE_WAY_S / 2, lambda: meanwhile.set_result(len(syncs)))
    durable = journal.begin("test", Body(0), lambda: happened.append(("told", len(syncs))) or tells)
    assert happened == [("told", 0), *([] if tells else ["disk begins"])]
    assert await meanwhile == (0 if tells else 1)
    assert await durable == 1
    assert len(syncs) == 1
    assert len(happened) == (1 if tells else 2)


async def test_what_is_begun_is_told_then_durable_and_what_comes_meanwhile_follows_in_order(path, reopen, syncs):
    journal = reopen()
    told = []
    first = journal.begin("test", Body(0), lambda: told.append(len(syncs)) or True)
    assert (told, len(syncs), first.done()) == ([0], 0, False)
    assert bodies(path) == [{"number": 0}]
    second = journal.begin("test", Body(1), lambda: told.append(len(syncs)) or False)
    third = asyncio.ensure_future(journal.append("test", {"number": 2}))
    assert told == [0]  # the second is not even written: a failure of the first can still take that back
    assert await asyncio.gather(first, second, third) == [1, 2, 3]
    assert told == [0, 1]
    assert bodies(path) == [{"number": number} for number in range(3)]
    assert len(syncs) in {2, 3}


async def test_append_now_and_close_wait_for_what_was_begun(path, reopen, syncs):
    journal = reopen()
    first = journal.begin("test", Body(0), lambda: True)
    waiting = journal.begin("test", Body(1), lambda: True)
    assert journal.append_now("test", {"number": 2}) == 3
    assert (first.result(), waiting.result()) == (1, 2)
    last = journal.begin("test", Body(3), lambda: True)
    count = len(syncs)
    journal.close()
    assert (last.result(), len(syncs) - count) == (4, 1)
    assert bodies(path) == [{"number": number} for number in range(4)]
    await asyncio.sleep(2 * GIVE_WAY_S)  # what was planned for then finds nothing to do
    assert len(syncs) - count == 1


async def test_append_now_keeps_the_order(path, reopen):
    journal = reopen()
    waiting = [asyncio.ensure_future(journal.append("test", {"number": number})) for number in range(2)]
    await asyncio.sleep(0)
    assert journal.append_now("test", {"number": 2}) == 3
    late = asyncio.ensure_future(journal.append("test", {"number": 3}))
    assert await asyncio.gather(*waiting, late) == [1, 2, 4]
    assert bodies(path) == [{"number": number} for number in range(4)]


async def test_a_cancelled_writer_harms_no_other(path, reopen):
    journal = reopen()
    tasks = [asyncio.ensure_future(journal.append("test", {"number": number})) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == 1
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[2] == 3
    assert verify(path).entries == 3


async def test_closing_writes_what_waits(path, reopen):
    journal = reopen()
    waiting = asyncio.ensure_future(journal.append("test", {"number": 0}))
    await asyncio.sleep(0)
    journal.close()
    assert await waiting == 1
    assert verify(path).entries == 1


# -- a disk that refuses -------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_and_the_entry_counts_as_not_written(tmp_path, clock):
    with small_disk(tmp_path / "disk") as disk:
        journal = Journal.open(disk / "audit.log", clock)
        await journal.append("test", {"number": 0})
        filler = fill(disk)
        big = {"text": "x" * 5000}
        refused = await asyncio.gather(*(journal.append("test", big) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in refused] == [UnavailableError] * 3
        assert "No space" in str(refused[0])
        with pytest.raises(UnavailableError):
            journal.append_now("test", big)
        assert verify(disk / "audit.log").entries == 1
        filler.unlink()
        assert await journal.append("test", {"number": 1}) == 2
        assert bodies(disk / "audit.log") == [{"number": 0}, {"number": 1}]
        journal.close()
        journal = Journal.open(disk / "audit.log", clock)
        assert journal.append_now("test", {"number": 2}) == 3
        journal.close()


@pytest.mark.parametrize("failing", ["fdatasync", "ftruncate"])
async def test_an_error_of_the_disk_is_never_an_entry(path, reopen, monkeypatch, failing):
    """A disk that fails can't be had on demand, so the system calls fail here."""
    journal = reopen()
    write(journal, 1)

    def fails(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fails)
        if failing == "ftruncate":
            broken.setattr(os, "ftruncate", fails)
        for number in range(2):
            with pytest.raises(UnavailableError, match="Input/output error"):
                await journal.append("test", {"lost": number})
    assert await journal.append("test", {"number": 1}) == 2
    assert bodies(path) == [{"number": 0}, {"number": 1}]
    assert verify(path).entries == 2


def test_a_head_that_can_not_be_written_promises_less_and_nothing_false(path, reopen, monkeypatch):
    journal = reopen()
    write(journal, 1)
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        assert write(journal, 1, first=1) == [2]
    assert verify(path).entries == 2
    assert write(reopen(), 1, first=2) == [3]
