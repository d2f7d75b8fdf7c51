"""bpf/events.h against kernel/wire.py: bytes laid out by the object's BTF must decode to the same values."""

import struct

import pytest

from agent_broker.kernel import wire
from agent_broker.kernel.events import Sender
from agent_broker.kernel.loader import OBJECTS
from tests.kernel.btf import struct_layout

LAYOUT = OBJECTS / "layout.bpf.o"

pytestmark = pytest.mark.kernel

FILE_MEMBERS = {
    "dev": ("Q", 0xFE00001),
    "ino": ("Q", 0x1122334455667788),
    "size_bytes": ("Q", 3),
    "mtime_ns": ("q", -4),
    "ctime_ns": ("q", 5),
    "fs_magic": ("Q", 6),
    "generation": ("I", 7),
    "mode": ("I", 0o100755),
    "owner_uid": ("I", 1000),
    "nlink": ("I", 9),
}


def fill(name, values):
    """Return a struct's bytes with the given members set where its BTF says they are."""
    size, members = struct_layout(LAYOUT, name)
    raw = bytearray(size)
    for member, (code, value) in values.items():
        if code == "bytes":
            raw[members[member] : members[member] + len(value)] = value
        else:
            struct.pack_into(f"={code}", raw, members[member], value)
    return bytes(raw)


def header(kind):
    return fill(
        "event_header",
        {"kind": ("I", kind), "time_ns": ("Q", 77), "proc_id": ("Q", 88), "exec_id": ("Q", 99)},
    )


def assert_file(facts):
    for member, (_, value) in FILE_MEMBERS.items():
        assert getattr(facts, member) == value, member


def test_fork():
    event = wire.decode_event(
        fill(
            "fork_event",
            {
                "header": ("bytes", header(1)),
                "parent_proc_id": ("Q", 5),
                "child_pid": ("I", 6),
                "parent_pid": ("I", 7),
            },
        )
    )

    assert (event.time_ns, event.proc_id, event.exec_id) == (77, 88, 99)
    assert (event.parent_proc_id, event.child_pid, event.parent_pid) == (5, 6, 7)


def test_exec():
    event = wire.decode_event(
        fill(
            "exec_event",
            {
                "header": ("bytes", header(2)),
                "previous_exec_id": ("Q", 98),
                "file": ("bytes", fill("file_facts", FILE_MEMBERS)),
                "pid": ("I", 11),
                "uid": ("I", 12),
                "flags": ("I", 13),
                "mount_ns": ("I", 16),
                "args_bytes": ("I", 14),
                "strings_bytes": ("I", 15),
                "filename_bytes": ("H", 4),
                "interp_bytes": ("H", 3),
                "args_head_bytes": ("H", 6),
                "filename": ("bytes", b"/a/bGARBAGE"),
                "interp": ("bytes", b"/shGARBAGE"),
                "args_head": ("bytes", b"x\0yy\0zGARBAGE"),
            },
        )
    )
    file, detail = wire.decode_exec_detail(event.raw)

    assert (event.proc_id, event.exec_id, event.previous_exec_id, event.pid) == (88, 99, 98, 11)
    assert wire.exec_flags(event) == (13, 14, 15)
    assert (detail.time_ns, detail.uid, detail.flags, detail.mount_ns) == (77, 12, 13, 16)
    assert (detail.filename, detail.interp, detail.args_head) == (b"/a/b", b"/sh", b"x\0yy\0z")
    assert_file(file)


def test_exit():
    assert wire.decode_event(fill("exit_event", {"header": ("bytes", header(3))})).proc_id == 88


def test_seed():
    event = wire.decode_event(
        fill(
            "seed_event",
            {
                "header": ("bytes", header(4)),
                "file": ("bytes", fill("file_facts", FILE_MEMBERS)),
                "start_ns": ("Q", 21),
                "pid": ("I", 22),
                "parent_pid": ("I", 23),
                "uid": ("I", 24),
            },
        )
    )
    file, start_ns, uid = wire.decode_seed_detail(event.raw)

    assert (event.proc_id, event.exec_id, event.pid, event.parent_pid) == (88, 99, 22, 23)
    assert (start_ns, uid) == (21, 24)
    assert_file(file)


def test_strings():
    event = wire.decode_event(
        fill(
            "strings_event",
            {
                "header": ("bytes", header(5)),
                "offset_bytes": ("I", 4096),
                "piece_bytes": ("I", 3),
                "piece": ("bytes", b"A=1GARBAGE"),
            },
        )
    )

    assert (event.exec_id, event.offset_bytes, event.piece) == (99, 4096, b"A=1")


def test_taint():
    actor = {"actor_proc_id": ("Q", 41), "actor_exec_id": ("Q", 42), "actor_pid": ("I", 43), "taint": ("I", 2)}
    event = wire.decode_event(fill("taint_event", {"header": ("bytes", header(6)), **actor}))

    assert (event.proc_id, event.exec_id) == (88, 99)
    assert (event.actor_proc_id, event.actor_exec_id, event.actor_pid, event.taint) == (41, 42, 43, 2)


def test_task_record():
    members = {
        "proc_id": ("Q", 1),
        "exec_id": ("Q", 2),
        "taints": ("I", 3),
        "watched": ("I", 4),
        "written_mm": ("Q", 5),
        "kernel_exec_id": ("Q", 6),
        "under_agent": ("I", 7),
    }

    assert wire.TASK_RECORD.unpack(fill("task_record", members)) == (1, 2, 3, 4, 5, 6, 7, 0)


def test_endpoints():
    members = {"unix_dev": ("Q", 1), "unix_ino": ("Q", 2), "sign_dev": ("Q", 3), "sign_ino": ("Q", 4)}

    assert wire.ENDPOINTS.unpack(fill("endpoints", {**members, "tcp_port": ("I", 5)})) == (1, 2, 3, 4, 5, 0)


def test_open_file():
    others = {"other_proc_id": ("Q", 53), "other_exec_id": ("Q", 54)}
    sender = fill("sender", {"proc_id": ("Q", 51), "exec_id": ("Q", 52), **others})
    raw = fill(
        "open_file",
        {
            "pid": ("I", 31),
            "fd": ("I", 32),
            "kind": ("I", 1),
            "writers": ("i", -2),
            "references": ("Q", 33),
            "readers": ("I", 34),
            "sharers": ("I", 35),
            "sender": ("bytes", sender),
            "file": ("bytes", fill("file_facts", FILE_MEMBERS)),
        },
    )
    first, second = wire.decode_open_files(raw + raw)

    assert first == second
    assert (first.pid, first.fd, first.kind, first.writers) == (31, 32, 1, -2)
    assert (first.references, first.readers, first.sharers) == (33, 34, 35)
    assert first.sender == Sender(51, 52, 53, 54)
    assert_file(first.file)


@pytest.mark.parametrize(
    ("name", "layout", "members"),
    [
        ("file_key", wire.FILE_KEY, ("dev", "ino")),
        (
            "counters",
            wire.COUNTERS,
            (
                "last_proc_id",
                "last_exec_id",
                "lost_fork",
                "lost_exec",
                "lost_exit",
                "lost_seed",
                "lost_strings",
                "lost_record",
                "lost_taint",
                "lost_denial",
            ),
        ),
    ],
)
def test_maps_of_64_bit_numbers(name, layout, members):
    size, offsets = struct_layout(LAYOUT, name)

    assert size == layout.size
    assert [offsets[member] for member in members] == list(range(0, size, 8))


def test_files_query():
    raw = fill("files_query", {"socket_ino": ("Q", 1), "pid": ("I", 2), "fd": ("I", 3)})

    assert wire.FILES_QUERY.unpack(raw) == (1, 2, 3)


def test_denial():
    members = {
        "header": ("bytes", header(7)),
        "dev": ("Q", 61),
        "ino": ("Q", 62),
        "operation": ("I", 2),
        "flags": ("I", 63),
        "pid": ("I", 64),
        "uid": ("I", 65),
        "denied": ("I", 1),
        "command": ("bytes", b"cat\0GARBAGE"),
        "name": ("bytes", b"/a/b\0GARBAGE"),
    }
    raw = fill("denial_event", members)
    event = wire.decode_denial(raw)

    assert len(raw) == wire.DENIED_BYTES
    assert (event.time_ns, event.proc_id, event.exec_id, event.dev, event.ino) == (77, 88, 99, 61, 62)
    assert (event.operation, event.flags, event.pid, event.uid) == (2, 63, 64, 65)
    assert (event.denied, event.command, event.name) == (True, b"cat", b"/a/b")


def test_what_the_marks_are_made_of():
    opener = fill("opener", {"agent": ("Q", 1), "kernel_exec_id": ("Q", 2)})

    mark = fill("mark", {"agent": ("Q", 1), "generation": ("I", 2), "is_probe": ("I", 3)})
    assert wire.MARK.unpack(mark) == (1, 2, 3)
    assert wire.OPENER.unpack(opener) == (1, 2)
    assert wire.OBJECT_KEY.unpack(fill("object_key", {"operation": ("I", 9), "id": ("I", 3)})) == (9, 3)
    assert wire.WATCHMAN.unpack(fill("watchman", {"tgid": ("I", 1)})) == (1, 0)
