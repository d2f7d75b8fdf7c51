"""No edit, removal, addition or exchange of lines passes; no cut at any byte loses a durable entry silently."""

import shutil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent_broker.audit.journal import Journal, read, verify
from agent_broker.errors import IntegrityError
from tests.fakes.clock import FakeClock

ENTRIES = 12

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "audit.log"
    journal = Journal.open(path, FakeClock())
    for number in range(ENTRIES):
        journal.append_now("test", {"number": number, "text": "x" * number})
    journal.close()
    return path


def copied(pristine, name, lines, head=None):
    """A journal with these bytes, and the head of the pristine one."""
    path = pristine.with_name(name)
    path.write_bytes(lines)
    path.chmod(0o600)
    shutil.copy(str(pristine) + ".head", str(path) + ".head")
    if head is not None:
        path.with_name(name + ".head").write_bytes(head)
    return path


@given(st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=3), max_size=5))
@settings(max_examples=100, deadline=None)
def test_what_was_appended_is_read(tmp_path_factory, bodies):
    path = tmp_path_factory.mktemp("any") / "audit.log"
    journal = Journal.open(path, FakeClock())
    for body in bodies:
        journal.append_now("test", body)
    journal.close()
    assert [entry.body for entry in read(path)] == bodies
    assert verify(path).entries == len(bodies)


@given(position=st.integers(min_value=0), mask=st.integers(1, 255))
@settings(max_examples=400, deadline=None)
def test_a_changed_byte_is_found(pristine, position, mask):
    content = bytearray(pristine.read_bytes())
    content[position % len(content)] ^= mask
    with pytest.raises(IntegrityError):
        verify(copied(pristine, "byte.log", bytes(content)))


@given(st.lists(st.integers(0, ENTRIES - 1), max_size=2 * ENTRIES))
@settings(max_examples=300, deadline=None)
def test_any_other_sequence_of_lines_is_found(pristine, order):
    """Removed, repeated, exchanged, in any combination."""
    assume(order != list(range(ENTRIES)))
    lines = pristine.read_bytes().splitlines(keepends=True)
    with pytest.raises(IntegrityError):
        verify(copied(pristine, "order.log", b"".join(lines[number] for number in order)))


@given(at=st.integers(0, ENTRIES), added=st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_an_added_line_is_found(pristine, at, added):
    lines = pristine.read_bytes().splitlines(keepends=True)
    lines.insert(at, added + b"\n")
    with pytest.raises(IntegrityError):
        verify(copied(pristine, "added.log", b"".join(lines)))


@given(cut=st.integers(min_value=1))
@settings(max_examples=200, deadline=None)
def test_a_cut_of_any_length_is_found(pristine, cut):
    content = pristine.read_bytes()
    path = copied(pristine, "cut.log", content[: len(content) - 1 - cut % len(content)])
    with pytest.raises(IntegrityError):
        verify(path)
    with pytest.raises(IntegrityError):
        Journal.open(path, FakeClock())


@given(kept=st.integers(1, ENTRIES - 1), torn=st.integers(min_value=0), noise=st.binary(max_size=30))
@settings(max_examples=200, deadline=None)
def test_after_a_crash_everything_up_to_the_head_is_there_and_the_rest_is_whole(pristine, kept, torn, noise):
    """The head is older than the end, the end is torn anywhere, and noise follows."""
    lines = pristine.read_bytes().splitlines(keepends=True)
    older = pristine.with_name("older.log")
    for stale in older.parent.glob("older.log*"):
        stale.unlink()
    journal = Journal.open(older, FakeClock())
    for number in range(kept):
        journal.append_now("test", {"number": number, "text": "x" * number})
    journal.close()
    durable, rest = b"".join(lines[:kept]), b"".join(lines[kept:])
    assert older.read_bytes() == durable  # the clock stands still, so the same entries are the same bytes
    tail = rest[: torn % (len(rest) + 1)]
    older.write_bytes(durable + tail + noise)
    Journal.open(older, FakeClock()).close()
    entries = list(read(older))
    whole = kept + tail.count(b"\n")
    assert [entry.body["number"] for entry in entries[:whole]] == list(range(whole))
    assert all(entry.kind == "journal-repaired" for entry in entries[whole:])
    assert (len(entries) > whole) == (len(durable + tail + noise) > sum(len(line) for line in lines[:whole]))
    assert verify(older).entries == len(entries)
