"""A journal that is turned over: one chain through all its segments, and each line read once."""

import os
import signal
import subprocess
import sys

import pytest

from agent_broker.audit.chain import EMPTY
from agent_broker.audit.journal import Journal, Limits, read, verify
from agent_broker.audit.segments import CONTINUED, older_segments
from agent_broker.audit.tail import entries_after
from agent_broker.errors import IntegrityError, UnavailableError
from tests.fakes.clock import FakeClock
from tests.fakes.journals import head_of, write
from tests.fakes.small_disk import fill, small_disk

SMALL = Limits(segment_bytes=1000, keep=3)
MANY = Limits(segment_bytes=1000, keep=1000)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def reopen(path):
    opened = []

    def again(limits=MANY):
        while opened:
            opened.pop().close()
        opened.append(Journal.open(path, FakeClock(), limits))
        return opened[-1]

    yield again
    for each in opened:
        each.close()


def numbers(path):
    return [entry.body["number"] for entry in read(path) if entry.kind == "test"]


def filled(reopen, count, limits=MANY):
    """A journal with so many entries, each in a commit of its own."""
    journal = reopen(limits)
    write(journal, count)
    return journal


def test_the_chain_goes_through_all_segments_and_on_after_reopening(path, reopen):
    filled(reopen, 60)
    write(reopen(), 60, first=60)

    assert len(older_segments(path)) > 5
    assert numbers(path) == list(range(120))
    found = verify(path)
    assert (found.first, found.segments) == (1, len(older_segments(path)) + 1)
    assert found.entries == [entry.seq for entry in read(path)][-1] == 120 + found.segments - 1
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in path.parent.iterdir())


def test_a_reader_of_the_end_opens_the_last_segments_only(path, reopen):
    last = filled(reopen, 100).head.seq
    first = min(older_segments(path))
    older_segments(path)[first].unlink()

    assert [entry.seq for entry in read(path, after=last - 10)] == list(range(last - 9, last + 1))


def test_the_oldest_are_removed_and_the_rest_verifies(path, reopen):
    filled(reopen, 100, SMALL)

    found = verify(path)
    assert len(older_segments(path)) == 3
    assert found.first > 1
    assert found.entries == len(list(read(path))) < 100
    assert numbers(path)[-1] == 99
    write(reopen(SMALL), 50, first=100)
    assert verify(path).first > found.first


@pytest.mark.parametrize("which", ["oldest", "middle", "newest"])
def test_a_segment_that_somebody_removed_is_missed(path, reopen, which):
    filled(reopen, 100, SMALL)
    segments = list(older_segments(path).values())
    segments[{"oldest": 0, "middle": 1, "newest": 2}[which]].unlink()

    with pytest.raises(IntegrityError, match="did not remove it"):
        verify(path)
    write(reopen(SMALL), 1)
    with pytest.raises(IntegrityError, match="did not remove it"):
        verify(path)


def test_turning_over_again_does_not_hide_that_a_segment_was_removed(path, reopen):
    filled(reopen, 60, Limits(segment_bytes=1000, keep=20))
    next(iter(older_segments(path).values())).unlink()
    before = len(older_segments(path))
    write(reopen(Limits(segment_bytes=1000, keep=20)), 20)

    assert len(older_segments(path)) > before
    with pytest.raises(IntegrityError, match="did not remove it"):
        verify(path)


def test_a_changed_byte_in_any_segment_is_found(path, reopen):
    filled(reopen, 40)
    for each in (*older_segments(path).values(), path):
        content = each.read_bytes()
        for place in (3, len(content) // 2, len(content) - 3):
            each.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(IntegrityError):
                verify(path)
        each.write_bytes(content)
    assert verify(path).entries == 40 + len(older_segments(path))


def test_a_segment_that_says_it_goes_on_from_elsewhere_is_found(path, reopen):
    """Whoever leaves lines out and makes up where a segment goes on breaks the chain at its own first line."""
    filled(reopen, 60)
    older = older_segments(path)
    second, third = list(older)[1:3]
    content = older[third].read_bytes()
    older[second].unlink()
    older[third].write_bytes(content.replace(f'"seq":{second}'.encode(), f'"seq":{min(older)}'.encode()))

    with pytest.raises(IntegrityError):
        verify(path)


def test_segments_without_their_journal_are_not_begun_anew(path, reopen):
    filled(reopen, 40).close()
    path.unlink()
    head_of(path).unlink()

    with pytest.raises(IntegrityError, match="older segments"):
        Journal.open(path, FakeClock(), MANY)


def test_who_follows_reads_each_line_once_across_segments(path, reopen):
    journal, place, seen = reopen(SMALL), EMPTY, []
    for number in range(100):
        write(journal, 1, first=number)
        if number % 7 == 0:
            found = list(entries_after(path, place))
            seen += [entry for entry, _ in found]
            place = found[-1][1]
    seen += [entry for entry, _ in entries_after(path, place)]

    assert [entry.seq for entry in seen] == list(range(1, journal.head.seq + 1))
    assert [entry.body["number"] for entry in seen if entry.kind == "test"] == list(range(100))
    assert [entry.kind for entry in seen].count(CONTINUED) > 5


def test_what_an_unfinished_turn_left_is_removed_and_nothing_is_twice(path, reopen):
    """A kill between the two names, and one before the next segment has its name."""
    head = filled(reopen, 9).head
    reopen().close()
    twice = path.with_name(f"{path.name}.{head.seq:012}")
    os.link(path, twice)
    path.with_name(f"{path.name}.next").write_bytes(b"half a li")

    journal = reopen()
    assert not twice.exists()
    write(journal, 20, first=9)
    assert not path.with_name(f"{path.name}.next").exists()
    assert numbers(path) == list(range(29))
    assert verify(path).first == 1


@pytest.mark.parametrize("failing", ["fdatasync", "link", "replace", "sync_folder"])
def test_if_the_disk_refuses_the_turn_the_journal_grows_on(path, reopen, monkeypatch, failing):
    journal = filled(reopen, 3)

    def fails(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        target = {"replace": "pathlib.Path.replace", "sync_folder": "agent_broker.audit.turnover.sync_folder"}
        broken.setattr(target.get(failing, f"agent_broker.audit.turnover.os.{failing}"), fails)
        if failing != "fdatasync":
            write(journal, 20, first=3)
    write(journal, 20, first=23 if failing != "fdatasync" else 3)

    assert numbers(path) == list(range(43 if failing != "fdatasync" else 23))
    assert verify(path).first == 1
    assert older_segments(path)
    assert not path.with_name(f"{path.name}.next").exists()


def test_a_full_disk_loses_nothing_that_was_taken(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "audit.log"
        journal = Journal.open(path, FakeClock(), MANY)
        write(journal, 30)
        filler = fill(disk)
        taken = 30
        with pytest.raises(UnavailableError, match="No space"):
            while True:
                taken += len(write(journal, 1, first=taken))
        filler.unlink()
        write(journal, 20, first=taken)
        journal.close()

        assert numbers(path) == list(range(taken + 20))
        assert verify(path).segments > 1


WRITER = """
import sys
from pathlib import Path
from agent_broker.audit.journal import Journal, Limits
from agent_broker.clock import SystemClock

journal = Journal.open(Path(sys.argv[1]), SystemClock(), Limits(segment_bytes=1500, keep=100000))
number = int(sys.argv[2])
while True:
    journal.append_now("test", {"number": number})
    print(number, flush=True)
    number += 1
"""


def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(path):
    following = 0
    for lines in (1, 20, 90, 33):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(following)], stdout=subprocess.PIPE, text=True
        )
        said = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        said += writer.communicate()[0].splitlines(keepends=True)
        acknowledged = max(int(line) for line in said if line.endswith("\n"))
        Journal.open(path, FakeClock(), MANY).close()
        verify(path)
        there = numbers(path)
        assert there == list(range(len(there)))
        assert there[-1] >= acknowledged
        following = len(there)
    assert len(older_segments(path)) > 5
