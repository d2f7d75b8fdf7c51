"""A journal whose writer was killed, and one that somebody changed."""

import signal
import subprocess
import sys

import msgspec
import pytest

from agent_broker.audit.chain import EMPTY, Head, encode_line
from agent_broker.audit.journal import read, verify
from agent_broker.errors import IntegrityError
from tests.fakes.clock import FakeClock
from tests.fakes.journals import bodies, head_of, reopening, write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def reopen(path):
    with reopening(path, FakeClock()) as again:
        yield again


# -- a writer that dies --------------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
from agent_broker.audit.journal import Journal
from agent_broker.clock import SystemClock

async def writer(journal, name):
    while True:
        number = await journal.append("test", {"text": name * 300})
        print(number, flush=True)

async def main():
    journal = Journal.open(Path(sys.argv[1]), SystemClock())
    await asyncio.gather(*(writer(journal, str(name)) for name in range(16)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 50, 1000])
def test_what_was_acknowledged_before_a_kill_is_there(path, reopen, lines):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.communicate()[0].splitlines(keepends=True)
    last = max(int(line) for line in acknowledged if line.endswith("\n"))
    journal = reopen()
    before = verify(path).entries
    assert before >= last
    assert journal.append_now("test", {}) == before + 1
    assert verify(path).entries == before + 1


@pytest.mark.parametrize("torn", [b"{", b'{"seq":3,"time_ns":1', b"\0" * 4096, b'{"seq":9}\n', b"\0\0\n{}\n\0"])
def test_a_torn_end_is_cut_and_recorded(path, reopen, torn):
    journal = reopen()
    write(journal, 2)
    journal.close()
    with path.open("ab") as file:
        file.write(torn)
    journal = reopen()
    assert bodies(path)[:2] == [{"number": 0}, {"number": 1}]
    repaired = list(read(path))[2]
    assert repaired.kind == "journal-repaired"
    assert repaired.body["cut_bytes"] == len(torn)
    assert write(journal, 1) == [4]
    assert verify(path).entries == 4


def test_an_unfinished_line_of_a_writer_at_work_is_no_fault(path, reopen):
    write(reopen(), 2)
    with path.open("ab") as file:
        file.write(b'{"seq":3,')
    assert verify(path).unfinished_bytes == 9
    assert len(list(read(path))) == 2


def test_a_line_that_was_durable_before_the_head_was_written_counts(path, reopen):
    journal = reopen()
    write(journal, 1)
    old_head = head_of(path).read_bytes()
    write(journal, 1, first=1)
    journal.close()
    head_of(path).write_bytes(old_head)
    assert verify(path).entries == 2
    assert write(reopen(), 1, first=2) == [3]
    assert [body["number"] for body in bodies(path)] == [0, 1, 2]


# -- tampering -----------------------------------------------------------------------------------------------


def test_an_edit_is_found_at_the_line_after_it(path, reopen):
    write(reopen(), 5)
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
    with pytest.raises(IntegrityError, match=r"audit\.log:3: "):
        verify(path)


def test_an_edit_of_the_last_line_is_found_by_the_head(path, reopen):
    write(reopen(), 2)
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
    with pytest.raises(IntegrityError, match="line 2 that its head remembers"):
        verify(path)
    with pytest.raises(IntegrityError, match="line 2 that its head remembers"):
        reopen()


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_cut_end_is_found_and_no_journal_is_begun_over_it(path, reopen, kept):
    journal = reopen()
    write(journal, 4)
    journal.close()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    with pytest.raises(IntegrityError, match="line 4 that its head remembers"):
        verify(path)
    with pytest.raises(IntegrityError, match="line 4 that its head remembers"):
        reopen()


@pytest.mark.parametrize("missing", ["audit.log", "audit.log.head"])
def test_one_file_without_the_other_is_found(path, reopen, missing):
    journal = reopen()
    write(journal, 1)
    journal.close()
    (path.parent / missing).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        verify(path)
    with pytest.raises(IntegrityError, match="missing"):
        reopen()


@pytest.mark.parametrize("content", [b"", b"{}", b"garbage"])
def test_a_head_that_is_none_is_found(path, reopen, content):
    journal = reopen()
    write(journal, 1)
    journal.close()
    head_of(path).write_bytes(content)
    with pytest.raises(IntegrityError, match="head beside"):
        verify(path)
    with pytest.raises(IntegrityError, match="head beside"):
        reopen()


def test_a_consistent_chain_with_a_gap_in_its_numbers_is_found(path, reopen):
    journal = reopen()
    write(journal, 1)
    journal.close()
    gap = Head(2, *msgspec.structs.astuple(EMPTY)[1:])
    line = encode_line(gap, 0, "test", msgspec.Raw(b"{}"))
    path.write_bytes(line)
    head_of(path).write_bytes(EMPTY.after(line).encode())
    with pytest.raises(IntegrityError, match=r"audit\.log:1: this line has the number 3"):
        verify(path)


@pytest.mark.parametrize("name", ["audit.log", "audit.log.head"])
def test_files_that_others_could_have_written_are_refused(path, reopen, name):
    write(reopen(), 1)
    (path.parent / name).chmod(0o660)
    with pytest.raises(IntegrityError, match="0600"):
        reopen()


def test_a_history_cut_together_with_its_head_is_not_found(path, reopen):
    """The limit that the module's docstring states; if this fails, the docstring is too modest."""
    journal = reopen()
    write(journal, 1)
    old_head = head_of(path).read_bytes()
    write(journal, 1, first=1)
    journal.close()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    head_of(path).write_bytes(old_head)
    assert verify(path).entries == 1
