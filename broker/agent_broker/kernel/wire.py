"""Bytes of the ring to events: the mirror of bpf/events.h, compared with the object's BTF by a test.

Numbers are in the machine's own byte order ("=": every padding is named in the header, so C and "=" agree). A
record of an unknown kind or a wrong size is an error: the objects and this package are built together.
"""

import struct
import sys
from collections.abc import Callable

from agent_broker.errors import IntegrityError
from agent_broker.ids import ExecId, Pid, ProcId, Uid
from agent_broker.kernel.events import (
    Denial,
    Event,
    Exec,
    ExecDetail,
    Exit,
    FileFacts,
    Fork,
    OpenFile,
    Seed,
    Sender,
    Strings,
    Taint,
)

KIND_FORK, KIND_EXEC, KIND_EXIT, KIND_SEED, KIND_STRINGS, KIND_TAINT = 1, 2, 3, 4, 5, 6
KIND_DENIAL = 7

EXEC_IS_SCRIPT = 1 << 0
EXEC_TRACED = 1 << 1
EXEC_REGISTERED = 1 << 2
EXEC_STRINGS_TOO_LONG = 1 << 3
EXEC_STRINGS_LOST = 1 << 4
EXEC_USER_NAMESPACE = 1 << 5
EXEC_USER_MOUNTED = 1 << 6
EXEC_OPEN_FOR_WRITING = 1 << 7
EXEC_WRITTEN = 1 << 8
EXEC_SIGNALLED = 1 << 9

TAINT_TRACED = 1 << 0
TAINT_WRITTEN = 1 << 1
TAINT_MAPPED = 1 << 2
TAINT_DENIED = 1 << 3
TAINT_SIGNALLED = 1 << 4

USE_WATCH, USE_GUARD, USE_PART = 1 << 0, 1 << 1, 1 << 2

OPERATION_OPEN, OPERATION_RECEIVE, OPERATION_TRUNCATE = 1, 2, 3
OPERATION_RENAME, OPERATION_UNLINK, OPERATION_LINK = 4, 5, 6
OPERATION_SIGNAL, OPERATION_HOLD, OPERATION_MAP, OPERATION_PROGRAM = 7, 8, 9, 10

OPEN_FILE, OPEN_SOCKET, OPEN_MAPPING = 0, 1, 2

FILENAME_BYTES = 256
INTERP_BYTES = 128
ARGS_HEAD_BYTES = 256
COMMAND_BYTES = 16
STRINGS_PIECE_BYTES = 4096
MAX_STRINGS_BYTES = 128 * 1024

_HEADER = struct.Struct("=IIQQQ")
_FILE = struct.Struct("=QQQqqQIIII")
_FORK = struct.Struct("=IIQQQQII")
_EXEC_IDS = struct.Struct("=QQQ")  # proc_id, exec_id, previous_exec_id, from offset 16
_EXEC_TAIL = struct.Struct("=IIIIIHHHHI")
_SEED_TAIL = struct.Struct("=QIIII")
_STRINGS = struct.Struct("=IIQQQII")
_TAINT = struct.Struct("=IIQQQQQII")
_DENIED = struct.Struct(f"=IIQQQQQIIIIII{COMMAND_BYTES}s{FILENAME_BYTES}s")

_FILE_OFFSET = _HEADER.size + 8
_EXEC_TAIL_OFFSET = _FILE_OFFSET + _FILE.size
_EXEC_TEXT_OFFSET = _EXEC_TAIL_OFFSET + _EXEC_TAIL.size
_SEED_TAIL_OFFSET = _HEADER.size + _FILE.size

EXEC_BYTES = _EXEC_TEXT_OFFSET + FILENAME_BYTES + INTERP_BYTES + ARGS_HEAD_BYTES
SEED_BYTES = _SEED_TAIL_OFFSET + _SEED_TAIL.size
STRINGS_BYTES = _STRINGS.size + STRINGS_PIECE_BYTES
DENIED_BYTES = _DENIED.size

TASK_RECORD = struct.Struct("=QQIIQQII")
"""struct task_record: proc_id, exec_id, taints, watched, written_mm, kernel_exec_id, under_agent."""
COUNTERS = struct.Struct("=10Q")
"""struct counters: the two last ids, then the losses."""
FILE_KEY = struct.Struct("=QQ")
"""struct file_key: dev, ino."""
USES = struct.Struct("=I")
"""A value of the `registered` map: USE bits."""
EXEC_ID = struct.Struct("=Q")
"""A value of the `guards` map."""
MARK = struct.Struct("=QII")
"""struct mark: agent, generation, is_probe."""
OPENER = struct.Struct("=QQ")
"""struct opener: agent, kernel_exec_id."""
WATCHMAN = struct.Struct("=II")
"""struct watchman: tgid."""
FILTER_INDEX = struct.Struct("=I")
FILTER_WORD = struct.Struct("=Q")
"""A key and a value of the `filter` map."""
OBJECT_KEY = struct.Struct("=II")
"""struct object_key: operation, id."""
FILES_QUERY = struct.Struct("=QII")
"""struct files_query: socket_ino, pid, fd."""
EVERY_DESCRIPTOR = 0xFFFFFFFF
ENDPOINTS = struct.Struct("=QQQQII")
"""struct endpoints: unix_dev, unix_ino, sign_dev, sign_ino, tcp_port."""
_OPEN_FILE_HEAD = struct.Struct("=IIIiQIIQQQQ")
OPEN_FILE_BYTES = _OPEN_FILE_HEAD.size + _FILE.size


def decode_event(raw: bytes) -> Event:
    """Return the event of one ring record.

    Raises:
        IntegrityError: a record that this version does not write.
    """
    kind = int.from_bytes(raw[:4], sys.byteorder)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise IntegrityError(f"the kernel side sent an event of kind {kind}", next_step="build the objects again")
    try:
        return decoder(raw)
    except (struct.error, ValueError) as error:
        raise IntegrityError(
            f"the kernel side sent a malformed event of kind {kind} ({len(raw)} bytes)",
            next_step="build the objects again",
        ) from error


def decode_exec_detail(raw: bytes) -> tuple[FileFacts, ExecDetail]:
    """Return the rest of an Exec event, from its trimmed bytes (Exec.raw)."""
    _pid, uid, flags, args_bytes, strings_bytes, filename_n, interp_n, args_n, _, mount_ns = _EXEC_TAIL.unpack_from(
        raw, _EXEC_TAIL_OFFSET
    )
    filename_at = _EXEC_TEXT_OFFSET
    interp_at = filename_at + filename_n
    args_at = interp_at + interp_n
    detail = ExecDetail(
        time_ns=_HEADER.unpack_from(raw)[2],
        uid=Uid(uid),
        flags=flags,
        mount_ns=mount_ns,
        args_bytes=args_bytes,
        strings_bytes=strings_bytes,
        filename=raw[filename_at : filename_at + filename_n],
        interp=raw[interp_at : interp_at + interp_n],
        args_head=raw[args_at : args_at + args_n],
    )
    return decode_file(raw, _FILE_OFFSET), detail


def decode_seed_detail(raw: bytes) -> tuple[FileFacts, int, Uid]:
    """Return a Seed's file, start time (CLOCK_BOOTTIME, ns) and user."""
    start_ns, _pid, _parent, uid, _ = _SEED_TAIL.unpack_from(raw, _SEED_TAIL_OFFSET)
    return decode_file(raw, _HEADER.size), start_ns, Uid(uid)


def decode_file(raw: bytes, offset: int) -> FileFacts:
    """Return a struct file_facts."""
    dev, ino, size, mtime, ctime, magic, generation, mode, owner, nlink = _FILE.unpack_from(raw, offset)
    return FileFacts(dev, ino, generation, size, mtime, ctime, mode, Uid(owner), nlink, magic)


def decode_open_files(raw: bytes) -> tuple[OpenFile, ...]:
    """Return what an iteration over open files wrote."""
    files = []
    for at in range(0, len(raw), OPEN_FILE_BYTES):
        pid, fd, kind, writers, references, readers, sharers, *sender_ids = _OPEN_FILE_HEAD.unpack_from(raw, at)
        sender = _sender(*sender_ids) if sender_ids[0] else None
        file = decode_file(raw, at + _OPEN_FILE_HEAD.size)
        files.append(OpenFile(pid, fd, file, kind, writers, references, readers, sender, sharers))
    return tuple(files)


def _sender(proc_id: int, exec_id: int, other_proc_id: int, other_exec_id: int) -> Sender:
    return Sender(ProcId(proc_id), ExecId(exec_id), ProcId(other_proc_id), ExecId(other_exec_id))


def _fork(raw: bytes) -> Fork:
    _, _, time_ns, proc_id, exec_id, parent, child_pid, parent_pid = _FORK.unpack(raw)
    return Fork(time_ns, ProcId(proc_id), ExecId(exec_id), ProcId(parent), Pid(child_pid), Pid(parent_pid))


def _exec(raw: bytes) -> Exec:
    _require_size(raw, EXEC_BYTES)
    proc_id, exec_id, previous = _EXEC_IDS.unpack_from(raw, 16)
    pid, _, _, _, _, filename_n, interp_n, args_n, _, _ = _EXEC_TAIL.unpack_from(raw, _EXEC_TAIL_OFFSET)
    if filename_n > FILENAME_BYTES or interp_n > INTERP_BYTES or args_n > ARGS_HEAD_BYTES:
        raise ValueError(filename_n, interp_n, args_n)
    interp_at = _EXEC_TEXT_OFFSET + FILENAME_BYTES
    args_at = interp_at + INTERP_BYTES
    trimmed = (
        raw[: _EXEC_TEXT_OFFSET + filename_n] + raw[interp_at : interp_at + interp_n] + raw[args_at : args_at + args_n]
    )
    return Exec(ProcId(proc_id), ExecId(exec_id), ExecId(previous), Pid(pid), trimmed)


def exec_flags(event: Exec) -> tuple[int, int, int]:
    """Return an Exec's flags, the bytes of its arguments, and of arguments and environment together."""
    _, _, flags, args_bytes, strings_bytes, *_ = _EXEC_TAIL.unpack_from(event.raw, _EXEC_TAIL_OFFSET)
    return flags, args_bytes, strings_bytes


def _exit(raw: bytes) -> Exit:
    return Exit(ProcId(_HEADER.unpack(raw)[3]))


def _seed(raw: bytes) -> Seed:
    _require_size(raw, SEED_BYTES)
    _, _, _, proc_id, exec_id = _HEADER.unpack_from(raw)
    _, pid, parent_pid, _, _ = _SEED_TAIL.unpack_from(raw, _SEED_TAIL_OFFSET)
    return Seed(ProcId(proc_id), ExecId(exec_id), Pid(pid), Pid(parent_pid), raw)


def _strings(raw: bytes) -> Strings:
    _require_size(raw, STRINGS_BYTES)
    _, _, _, _, exec_id, offset, count = _STRINGS.unpack_from(raw)
    if count > STRINGS_PIECE_BYTES:
        raise ValueError(count)
    return Strings(ExecId(exec_id), offset, raw[_STRINGS.size : _STRINGS.size + count])


def _taint(raw: bytes) -> Taint:
    _, _, _, proc_id, exec_id, actor_proc_id, actor_exec_id, actor_pid, taint = _TAINT.unpack(raw)
    return Taint(ProcId(proc_id), ExecId(exec_id), ProcId(actor_proc_id), ExecId(actor_exec_id), Pid(actor_pid), taint)


def decode_denial(raw: bytes) -> Denial:
    """Return the event of one record of the ring of denials.

    Raises:
        IntegrityError: a record that this version does not write.
    """
    try:
        kind, _, time_ns, proc_id, exec_id, dev, ino, operation, flags, pid, uid, denied, _, *text = _DENIED.unpack(raw)
    except struct.error as error:
        raise IntegrityError(
            f"the kernel side sent {len(raw)} bytes as a denial", next_step="build the objects again"
        ) from error
    if kind != KIND_DENIAL:
        raise IntegrityError(f"the kernel side sent {kind} as a denial", next_step="build the objects again")
    return Denial(
        time_ns=time_ns,
        proc_id=ProcId(proc_id),
        exec_id=ExecId(exec_id),
        dev=dev,
        ino=ino,
        operation=operation,
        flags=flags,
        pid=Pid(pid),
        uid=Uid(uid),
        denied=bool(denied),
        command=text[0].partition(b"\0")[0],
        name=text[1].partition(b"\0")[0],
    )


def _require_size(raw: bytes, size_bytes: int) -> None:
    if len(raw) != size_bytes:
        raise ValueError(len(raw))


_DECODERS: dict[int, Callable[[bytes], Event]] = {
    KIND_FORK: _fork,
    KIND_EXEC: _exec,
    KIND_EXIT: _exit,
    KIND_SEED: _seed,
    KIND_STRINGS: _strings,
    KIND_TAINT: _taint,
}
