"""The kernel's FUSE protocol: sizes as linux/fuse.h has them, names and offsets as they come."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_broker.view import wire
from agent_broker.view.wire import Attr, Op

ATTR = Attr(7, 0o100600, 1000, 1001, 12, 1_700_000_000_123_456_789)
NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name and b"/" not in name)


def test_structures_have_the_sizes_of_the_kernel():
    sizes = (len(wire.entry(ATTR)), len(wire.attributes(ATTR)), len(wire.opened(1)), len(wire.written(1)))
    assert sizes == (128, 104, 16, 8)
    assert len(wire.statfs()) == 80
    assert len(wire.answer(1)) == 16


def test_times_keep_their_nanoseconds():
    seconds = struct.unpack_from("<QQQIII", wire.attributes(ATTR), 16 + 24)
    assert seconds == (*[1_700_000_000] * 3, *[123_456_789] * 3)


def test_an_error_is_negative_and_has_no_body():
    assert struct.unpack("<IiQ", wire.answer(9, error=errno.EACCES)) == (16, -errno.EACCES, 9)


def test_nothing_is_taken_that_was_not_offered_or_lets_an_asker_go_on():
    everything = struct.pack("<IIIII", 7, 45, 131072, 0xFFFFFFFF, 0xFFFFFFFF)
    nothing = struct.pack("<IIIII", 7, 31, 131072, 0, 0)
    for offered in (everything, nothing):
        said = wire.init_answer(offered)
        assert len(said) == 64
        flags = struct.unpack_from("<I", said, 12)[0]
        asynchronous = 1 << 0 | 1 << 15 | 1 << 16  # ASYNC_READ, ASYNC_DIO, WRITEBACK_CACHE
        assert flags & asynchronous == 0
        assert flags == 0 or offered is everything


def test_another_protocol_is_refused():
    with pytest.raises(OSError, match="Protocol error"):
        wire.init_answer(struct.pack("<IIIII", 8, 0, 0, 0, 0))


@given(old=NAMES, new=NAMES, flags=st.sampled_from([0, 1, 2]))
def test_both_renames_say_the_same(old, new, flags):
    names = old + b"\0" + new + b"\0"
    assert wire.renamed(Op.RENAME, struct.pack("<Q", 5) + names) == (5, 0, old, new)
    assert wire.renamed(Op.RENAME2, struct.pack("<QII", 5, flags, 0) + names) == (5, flags, old, new)


@given(st.lists(NAMES, max_size=20, unique=True), st.integers(100, 4096))
def test_a_listing_is_whole_however_it_is_cut(names, size_bytes):
    entries = [(number, name, 8) for number, name in enumerate(names, 10)]
    seen, offset = [], 0
    while chunk := wire.listing(entries, offset, size_bytes):
        place = 0
        while place < len(chunk):
            node, offset, length, _ = struct.unpack_from("<QQII", chunk, place)
            seen.append((node, chunk[place + 24 : place + 24 + length]))
            place += -(-(24 + length) // 8) * 8
    assert seen == [(node, name) for node, name, _ in entries]


def test_a_size_that_is_not_set_is_not_changed():
    body = struct.pack("<IIQQQQQQIIIIIIII", 8, 0, 3, 42, 0, 0, 5, 0, 0, 0, 0, 0o644, 0, 0, 0, 0)
    wanted = wire.changes(body)
    assert (wanted.size_bytes, wanted.mode, wanted.mtime_ns, wanted.fh) == (42, None, None, None)
