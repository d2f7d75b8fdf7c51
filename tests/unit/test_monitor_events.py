"""The bytes of fanotify events: what is read from them, and that anything else is refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_broker.errors import IntegrityError
from agent_broker.monitor.fanotify import (
    FAN_MOVED_TO,
    FAN_OPEN_PERM,
    FAN_Q_OVERFLOW,
    Change,
    decode_changes,
    decode_opens,
)

FSID = b"fsid8888"
HANDLE = struct.pack("=Ii", 8, 1) + b"handle88"


def metadata(mask, records, *, fd=-1, pid=77, version=3):
    return struct.pack("=IBBHQii", 24 + len(records), version, 0, 24, mask, fd, pid) + records


def record(kind, body):
    return struct.pack("=BBH", kind, 0, 4 + len(body)) + body


def pidfd_record(pidfd):
    return record(4, struct.pack("=i", pidfd))


def name_record(name):
    padded = name + b"\0"
    return record(2, FSID + HANDLE + padded + b"\0" * (-len(padded) % 4))


def test_two_opens():
    events = metadata(FAN_OPEN_PERM, pidfd_record(9), fd=8) + metadata(FAN_OPEN_PERM, pidfd_record(-1), fd=10, pid=78)

    assert decode_opens(events) == [(FAN_OPEN_PERM, 8, 77, 9), (FAN_OPEN_PERM, 10, 78, -1)]


def test_a_change_of_an_entry():
    events = metadata(FAN_MOVED_TO, name_record(b"decoy") + pidfd_record(9))

    assert list(decode_changes(events)) == [Change(FAN_MOVED_TO, 77, 9, FSID + HANDLE, b"decoy", b"")]


def test_a_change_of_a_file_names_it_and_its_folder():
    events = metadata(2, name_record(b"decoy") + record(1, FSID + HANDLE) + pidfd_record(9))

    (change,) = decode_changes(events)

    assert (change.name, change.inode) == (b"decoy", FSID + HANDLE)


def test_an_overflow_has_nothing_but_a_pidfd_that_is_none():
    events = metadata(FAN_Q_OVERFLOW, pidfd_record(-1), pid=0)

    assert list(decode_changes(events)) == [Change(FAN_Q_OVERFLOW, 0, -1, b"", b"", b"")]


def test_unknown_records_are_skipped():
    events = metadata(2, record(99, b"....") + name_record(b"x") + pidfd_record(9))

    assert [each.name for each in decode_changes(events)] == [b"x"]


@pytest.mark.parametrize(
    "events",
    [
        metadata(1, pidfd_record(9), version=4),
        metadata(1, b""),
        metadata(1, record(5, b"....")),
        metadata(1, pidfd_record(9))[:-1],
        b"\0" * 32,
    ],
    ids=["version", "no pidfd", "another record", "cut", "zeros"],
)
def test_opens_of_another_layout_are_refused(events):
    with pytest.raises(IntegrityError, match="layout"):
        decode_opens(events)


@pytest.mark.parametrize(
    "events",
    [
        metadata(1, b"", version=4),
        metadata(1, pidfd_record(9))[:-1],
        metadata(1, struct.pack("=BBH", 4, 0, 0)),
        b"\0" * 24,
        b"\1",
    ],
    ids=["version", "cut", "empty record", "zeros", "one byte"],
)
def test_changes_of_another_layout_are_refused(events):
    with pytest.raises(IntegrityError, match="layout"):
        list(decode_changes(events))


@given(st.binary(max_size=200))
def test_any_bytes_end_in_events_or_in_an_error(data):
    for decode in (decode_opens, decode_changes):
        try:
            list(decode(data))
        except IntegrityError:
            continue
