"""Fuzzes the decoders of ring records: what decodes encodes to the same bytes, all else is an IntegrityError."""

import sys

from agent_broker.errors import IntegrityError
from agent_broker.kernel import wire
from agent_broker.kernel.events import Exec, Seed
from tests.fakes.ring_records import SIZES, encode_event, read_bytes


def one_input(data: bytes) -> None:
    """Try the bytes as a record, and as the body of a record of the right size."""
    _try(data)
    if data:
        kind = data[0] % (max(SIZES) + 2)
        body = data.ljust(SIZES.get(kind, 0), b"\0")[: SIZES.get(kind, len(data))]
        _try(kind.to_bytes(4, sys.byteorder) + body[4:])


def _try(raw: bytes) -> None:
    try:
        event = wire.decode_event(raw)
    except IntegrityError:
        return
    assert len(raw) == SIZES[int.from_bytes(raw[:4], sys.byteorder)]
    again = encode_event(event)
    assert again == read_bytes(raw)
    assert _facts(wire.decode_event(again)) == _facts(event)


def _facts(event: object) -> object:
    """What an event says, its unread bytes left out."""
    if isinstance(event, Exec):
        return event.proc_id, event.exec_id, event.previous_exec_id, wire.decode_exec_detail(event.raw)
    if isinstance(event, Seed):
        return event.proc_id, event.exec_id, event.pid, event.parent_pid, wire.decode_seed_detail(event.raw)
    return event
