"""What the kernel side said, as frozen records. Layouts: kernel.wire; meaning: bpf/events.h."""

import os
from typing import Final, Self

from msgspec import Struct

from agent_broker.ids import ExecId, Pid, ProcId, Uid

FUSE_MAGIC: Final = 0x65735546
"""Of a file system whose user answers for every byte, or does not answer (linux/magic.h: FUSE_SUPER_MAGIC)."""


class FileFacts(Struct, frozen=True):
    """An executable file as the kernel held it at exec.

    ``dev`` and ``ino`` are the kernel's (``i_sb->s_dev``, ``i_ino``): on btrfs and overlayfs they are not
    stat()'s. Two equal FileFacts name the same unchanged bytes as far as the file system records changes.
    """

    dev: int
    ino: int
    generation: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    """``i_mode``: type and permission bits."""
    owner_uid: Uid
    nlink: int
    """0: deleted, or never had a name (memfd, O_TMPFILE)."""
    fs_magic: int
    """``s_magic`` of its file system, numbers of linux/magic.h."""

    @classmethod
    def by_stat(cls, facts: os.stat_result) -> Self:
        """Return what stat says of a file: not comparable with the kernel's records."""
        return cls(
            dev=facts.st_dev,
            ino=facts.st_ino,
            generation=0,
            size_bytes=facts.st_size,
            mtime_ns=facts.st_mtime_ns,
            ctime_ns=facts.st_ctime_ns,
            mode=facts.st_mode,
            owner_uid=Uid(facts.st_uid),
            nlink=facts.st_nlink,
            fs_magic=0,
        )


class Fork(Struct, frozen=True, gc=False):
    """A new process, which runs its parent's image until it execs."""

    time_ns: int
    proc_id: ProcId
    exec_id: ExecId
    parent_proc_id: ProcId
    child_pid: Pid
    parent_pid: Pid


class Exec(Struct, frozen=True, gc=False):
    """A process put a new image in place.

    ``raw`` is the event with its texts trimmed (wire.decode_exec_detail): most images are never looked at again.
    """

    proc_id: ProcId
    exec_id: ExecId
    previous_exec_id: ExecId
    pid: Pid
    raw: bytes


class Exit(Struct, frozen=True, gc=False):
    """A thread group is gone."""

    proc_id: ProcId


class Seed(Struct, frozen=True, gc=False):
    """A process that is older than the hooks: its exec was not observed."""

    proc_id: ProcId
    exec_id: ExecId
    pid: Pid
    parent_pid: Pid
    raw: bytes


class Strings(Struct, frozen=True, gc=False):
    """A piece of the argument and environment strings of a registered image; comes before its Exec."""

    exec_id: ExecId
    offset_bytes: int
    piece: bytes


class Taint(Struct, frozen=True, gc=False):
    """Somebody took hold of a process that runs a registered image."""

    proc_id: ProcId
    exec_id: ExecId
    actor_proc_id: ProcId
    actor_exec_id: ExecId
    actor_pid: Pid
    taint: int
    """One of kernel.wire's TAINT bits."""


class Denial(Struct, frozen=True, gc=False):
    """Somebody was denied a marked file, or did something to us; from a ring of its own (kernel.denials)."""

    time_ns: int
    """CLOCK_BOOTTIME."""
    proc_id: ProcId
    """0: nothing is recorded of the process."""
    exec_id: ExecId
    dev: int
    ino: int
    """Of a file; else what bpf/events.h says at the operation."""
    operation: int
    """One of kernel.wire's OPERATIONs."""
    flags: int
    """``f_flags`` of an open, the number of a signal."""
    pid: Pid
    uid: Uid
    denied: bool
    """False: it was only seen."""
    command: bytes
    """What the process calls itself; for display."""
    name: bytes
    """By which it was opened, in the opener's view; empty for other operations, and where the kernel had none."""


class ExecDetail(Struct, frozen=True):
    """The rest of an Exec event, decoded when somebody asks."""

    time_ns: int
    uid: Uid
    flags: int
    mount_ns: int
    args_bytes: int
    strings_bytes: int
    filename: bytes
    interp: bytes
    args_head: bytes


class Sender(Struct, frozen=True):
    """Who wrote on a connection to the broker."""

    proc_id: ProcId
    exec_id: ExecId
    other_proc_id: ProcId = ProcId(0)
    """Of the first image that wrote too and was not this one, which was the first of all; 0: there is none."""
    other_exec_id: ExecId = ExecId(0)


class OpenFile(Struct, frozen=True):
    """One open descriptor, as an iteration over the kernel's file tables found it."""

    pid: int
    fd: int
    file: FileFacts
    kind: int = 0
    """One of kernel.wire's OPEN kinds."""
    writers: int = 0
    """Above 0: so many have the file open for writing; below: it is being executed."""
    references: int = 1
    """To the open file: descriptors, calls under way, messages in flight."""
    readers: int = 0
    """Of a socket: threads of the process that wait in a call for data, each with a reference."""
    sender: Sender | None = None
    """Of a socket: who wrote on it; None: nobody yet."""
    sharers: int = 0
    """Of a socket: tasks that use the same table of files and are not threads of the process."""


Event = Fork | Exec | Exit | Seed | Strings | Taint
