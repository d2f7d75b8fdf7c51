"""Events to bytes of the ring: the kernel side's half of kernel.wire, written out once more from bpf/events.h.

What the decoders do not read (paddings, text behind its counted bytes, some numbers of the header) is zero here, and
``read_bytes`` zeroes it in a record that somebody else wrote.
"""

import struct

from agent_broker.kernel import wire
from agent_broker.kernel.events import Event, Exec, ExecDetail, Exit, FileFacts, Fork, Seed, Strings, Taint

HEADER = struct.Struct("=IIQQQ")  # kind, size, time, proc_id, exec_id
FILE = struct.Struct("=QQQqqQIIII")
SIZES = {
    wire.KIND_FORK: 48,
    wire.KIND_EXEC: 776,
    wire.KIND_EXIT: 32,
    wire.KIND_SEED: 120,
    wire.KIND_STRINGS: 4136,
    wire.KIND_TAINT: 56,
}
_SIZE, _TIME, _PROC, _EXEC = (4, 8), (8, 16), (16, 24), (24, 32)
_EXEC_COUNTS = struct.Struct("=HHH")
_COUNTS_AT, _TEXT_AT = 124, 136
_UNREAD = {
    wire.KIND_FORK: (_SIZE,),
    wire.KIND_EXEC: (_SIZE, (130, 132)),
    wire.KIND_EXIT: (_SIZE, _TIME, _EXEC),
    wire.KIND_SEED: (_SIZE, _TIME, (116, 120)),
    wire.KIND_STRINGS: (_SIZE, _TIME, _PROC),
    wire.KIND_TAINT: (_SIZE, _TIME),
}


def encode_file(file: FileFacts) -> bytes:
    return FILE.pack(
        file.dev, file.ino, file.size_bytes, file.mtime_ns, file.ctime_ns, file.fs_magic, file.generation, file.mode,
        file.owner_uid, file.nlink,
    )  # fmt: skip


def encode_event(event: Event) -> bytes:
    """The record of an event, as the kernel would write it; the size in its header is zero."""
    match event:
        case Fork():
            body = struct.pack("=QII", event.parent_proc_id, event.child_pid, event.parent_pid)
            return _record(wire.KIND_FORK, event.time_ns, event.proc_id, event.exec_id, body)
        case Exec():
            return _exec(event, *wire.decode_exec_detail(event.raw))
        case Exit():
            return _record(wire.KIND_EXIT, 0, event.proc_id, 0, b"")
        case Seed():
            file, start_ns, uid = wire.decode_seed_detail(event.raw)
            body = encode_file(file) + struct.pack("=QIIII", start_ns, event.pid, event.parent_pid, uid, 0)
            return _record(wire.KIND_SEED, 0, event.proc_id, event.exec_id, body)
        case Strings():
            body = struct.pack("=II", event.offset_bytes, len(event.piece)) + event.piece.ljust(4096, b"\0")
            return _record(wire.KIND_STRINGS, 0, 0, event.exec_id, body)
        case Taint():
            actor = struct.pack("=QQII", event.actor_proc_id, event.actor_exec_id, event.actor_pid, event.taint)
            return _record(wire.KIND_TAINT, 0, event.proc_id, event.exec_id, actor)


def read_bytes(raw: bytes) -> bytes:
    """A record with everything zeroed that no decoder reads."""
    kind = int.from_bytes(raw[:4], "little" if struct.pack("=H", 1)[0] else "big")
    left = bytearray(raw)
    for start, end in _UNREAD[kind]:
        left[start:end] = bytes(end - start)
    if kind == wire.KIND_EXEC:
        counts = _EXEC_COUNTS.unpack_from(raw, _COUNTS_AT)
        at = _TEXT_AT
        for count, room in zip(counts, (256, 128, 256), strict=True):
            left[at + count : at + room] = bytes(room - count)
            at += room
    elif kind == wire.KIND_STRINGS:
        (count,) = struct.unpack_from("=I", raw, 36)
        left[40 + count :] = bytes(4096 - count)
    return bytes(left)


def _record(kind: int, time_ns: int, proc_id: int, exec_id: int, body: bytes) -> bytes:
    return HEADER.pack(kind, 0, time_ns, proc_id, exec_id) + body


def _exec(event: Exec, file: FileFacts, detail: ExecDetail) -> bytes:
    tail = struct.pack(
        "=IIIIIHHHHI", event.pid, detail.uid, detail.flags, detail.args_bytes, detail.strings_bytes,
        len(detail.filename), len(detail.interp), len(detail.args_head), 0, detail.mount_ns,
    )  # fmt: skip
    text = detail.filename.ljust(256, b"\0") + detail.interp.ljust(128, b"\0") + detail.args_head.ljust(256, b"\0")
    body = struct.pack("=Q", event.previous_exec_id) + encode_file(file) + tail + text
    return _record(wire.KIND_EXEC, detail.time_ns, event.proc_id, event.exec_id, body)
