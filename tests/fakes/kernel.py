"""A kernel that is a world: processes that fork, exec and exit, files that change, events that get lost.

It implements kernel.sensor.Sensor and speaks through the real wire format, so decoder, store and attestation above
it are the real ones.
"""

import itertools
import os
import struct
from dataclasses import dataclass, field

from agent_broker.kernel import wire
from agent_broker.kernel.events import FileFacts, OpenFile, Sender
from agent_broker.kernel.maps import Losses, TaskRecord

_HEADER = struct.Struct("=IIQQQ")
_FILE = struct.Struct("=QQQqqQIIII")


@dataclass
class FakeProcess:
    pid: int
    proc_id: int
    exec_id: int
    uid: int
    pidfd: int
    alive: bool = True
    taints: int = 0
    watched: bool = False


def a_file(ino: int = 1, **changes) -> FileFacts:
    facts = FileFacts(
        dev=0xFE00000, ino=ino, generation=0, size_bytes=100, mtime_ns=1, ctime_ns=1, mode=0o100755, owner_uid=0,
        nlink=1, fs_magic=0xEF53,
    )  # fmt: skip
    return FileFacts(**{**{name: getattr(facts, name) for name in facts.__struct_fields__}, **changes})


@dataclass
class FakeKernel:
    """Processes are made by ``boot`` (older than the monitor), ``fork`` and ``exec``."""

    sink: object = None
    processes: dict[int, FakeProcess] = field(default_factory=dict)
    queue: list[bytes] = field(default_factory=list)
    lost: int = 0
    lose_next: int = 0
    registered: set[tuple[int, int]] = field(default_factory=set)
    guarded_files: set[tuple[int, int]] = field(default_factory=set)
    parts: set[tuple[int, int]] = field(default_factory=set)
    guarded: set[int] = field(default_factory=set)
    open_files: dict[int, FileFacts] = field(default_factory=dict)
    sockets: dict[int, list[int]] = field(default_factory=dict)
    on_lookup: object = None
    missing: dict[str, str] = field(default_factory=dict)
    mappings: dict[int, list[FileFacts]] = field(default_factory=dict)
    senders: dict[int, Sender] = field(default_factory=dict)
    hidden_references: dict[int, int] = field(default_factory=dict)
    other_ends: dict[int, int] = field(default_factory=dict)
    sharers: dict[int, int] = field(default_factory=dict)
    searches: list[int] = field(default_factory=list)
    """In whose table a socket was looked for; 0: in everybody's."""
    writers: int = 0
    endpoints: tuple[int, FileFacts | None] = (0, None)
    let: set[tuple[int, str, int]] = field(default_factory=set)

    def __post_init__(self):
        self._ids = itertools.count(1)
        self._execs = itertools.count(1)
        self._pids = itertools.count(1000)

    # -- the world ----------------------------------------------------------------------------------------

    def boot(self, uid: int = 0, file: FileFacts | None = None, parent_pid: int = 0) -> FakeProcess:
        process = self._new(uid, next(self._execs))
        body = _facts(file or a_file()) + struct.pack("=QIIII", 5, process.pid, parent_pid, uid, 0)
        self._emit(wire.KIND_SEED, process, process.exec_id, body)
        return process

    def fork(self, parent: FakeProcess) -> FakeProcess:
        child = self._new(parent.uid, parent.exec_id)
        child.taints, child.watched = parent.taints, parent.watched
        self._emit(wire.KIND_FORK, child, parent.exec_id, struct.pack("=QII", parent.proc_id, child.pid, parent.pid))
        return child

    def exec(self, process: FakeProcess, filename: str, *argv: str, **options) -> FakeProcess:
        """options: file, env (dict), uid, flags, interp, mount_ns, strings ("lost" or "too-long")."""
        file = options.get("file") or a_file()
        previous, process.exec_id = process.exec_id, next(self._execs)
        process.uid = options.get("uid", process.uid)
        process.taints, process.watched = 0, (file.dev, file.ino) in self.registered
        arguments = b"".join(each.encode() + b"\0" for each in (argv or (filename,)))
        environment = b"".join(f"{name}={value}".encode() + b"\0" for name, value in options.get("env", {}).items())
        flags = options.get("flags", 0) | self._send_strings(process, file, arguments + environment, options)
        tail = struct.pack(
            "=IIIIIHHHHI", process.pid, process.uid, flags, len(arguments), len(arguments + environment),
            len(filename.encode()), 0, min(len(arguments), wire.ARGS_HEAD_BYTES), 0, options.get("mount_ns", 0),
        )  # fmt: skip
        text = (
            filename.encode().ljust(wire.FILENAME_BYTES, b"\0")
            + b"\xff" * wire.INTERP_BYTES
            + arguments[: wire.ARGS_HEAD_BYTES].ljust(wire.ARGS_HEAD_BYTES, b"\xff")
        )
        self._emit(wire.KIND_EXEC, process, process.exec_id, struct.pack("=Q", previous) + _facts(file) + tail + text)
        return process

    def run(self, parent: FakeProcess, filename: str, *argv: str, **options) -> FakeProcess:
        return self.exec(self.fork(parent), filename, *argv, **options)

    def taint(self, victim: FakeProcess, actor: FakeProcess, taint: int) -> None:
        """Somebody takes hold of a process: what bpf/taint.h does."""
        if not victim.watched or victim.taints & taint or actor.uid == 0:
            return
        victim.taints |= taint
        body = struct.pack("=QQII", actor.proc_id, actor.exec_id, actor.pid, taint)
        self._emit(wire.KIND_TAINT, victim, victim.exec_id, body)

    def exit(self, process: FakeProcess) -> None:
        process.alive = False
        self._emit(wire.KIND_EXIT, process, process.exec_id, b"")

    # -- Sensor -------------------------------------------------------------------------------------------

    def consume(self) -> bool:
        waiting, self.queue = self.queue, []
        for raw in waiting:
            self.sink(wire.decode_event(raw))
        return True

    def task_record(self, pidfd: int) -> TaskRecord | None:
        if self.on_lookup is not None:
            self.on_lookup()
        process = self.processes.get(pidfd)
        if process is None or not process.alive:
            return None
        return TaskRecord(process.proc_id, process.exec_id, process.taints)

    def real_uid(self, pidfd: int) -> int | None:
        process = self.processes.get(pidfd)
        return process.uid if process is not None and process.alive else None

    def losses(self) -> Losses:
        return Losses(fork=self.lost, exec=0, exit=0, seed=0, strings=0, record=0)

    def register(self, dev: int, ino: int, *, guard: bool = False) -> None:
        self.registered.add((dev, ino))
        if guard:
            self.guarded_files.add((dev, ino))

    def register_part(self, dev: int, ino: int) -> None:
        self.parts.add((dev, ino))

    def unregister_part(self, dev: int, ino: int) -> None:
        self.parts.discard((dev, ino))

    def guard(self, pidfd: int) -> bool:
        if "guard" in self.missing or pidfd not in self.processes:
            return False
        self.guarded.add(pidfd)
        return True

    def let_through(self, pidfd: int, agent: str, owner_uid: int) -> None:
        self.let.add((pidfd, agent, owner_uid))

    def unregister(self, dev: int, ino: int) -> None:
        for files in (self.registered, self.guarded_files):
            files.discard((dev, ino))

    def own_file(self, fd: int) -> OpenFile:
        stat = os.fstat(fd)
        known = self.open_files[stat.st_ino]
        return OpenFile(os.getpid(), fd, replace_size(known, stat.st_size), writers=self.writers)

    def foreign_mappings(self, pid: int) -> tuple[FileFacts, ...]:
        return tuple(self.mappings.get(pid, ()))

    def watch_endpoints(self, tcp_port: int, name: FileFacts | None, sign_name: FileFacts | None = None) -> bool:
        self.endpoints = (tcp_port, name, sign_name)
        return "send" not in self.missing

    def socket_holders(self, inode: int, *, pid: int = 0) -> tuple[OpenFile, ...]:
        self.searches.append(pid)
        pids = self.sockets.get(inode, ())
        references = len(pids) + self.hidden_references.get(inode, 0)
        sender, sharers = self.senders.get(inode), self.sharers.get(inode, 0)
        return tuple(
            OpenFile(each, 3, a_file(inode), wire.OPEN_SOCKET, references=references, sender=sender, sharers=sharers)
            for each in pids
            if pid in {0, each}
        )

    def other_end_of(self, inode: int, *, pid: int = 0) -> int:
        self.searches.append(pid)
        other = self.other_ends.get(inode, 0)
        return other if pid in {0, *self.sockets.get(other, ())} else 0

    # -- inside -------------------------------------------------------------------------------------------

    def _new(self, uid: int, exec_id: int) -> FakeProcess:
        pid = next(self._pids)
        process = FakeProcess(pid, next(self._ids), exec_id, uid, pidfd=pid + 100_000)
        self.processes[process.pidfd] = process
        return process

    def _send_strings(self, process: FakeProcess, file: FileFacts, strings: bytes, options: dict) -> int:
        if (file.dev, file.ino) not in self.registered:
            return 0
        if options.get("strings") == "lost":
            return wire.EXEC_REGISTERED | wire.EXEC_STRINGS_LOST
        if len(strings) > wire.MAX_STRINGS_BYTES:
            return wire.EXEC_REGISTERED | wire.EXEC_STRINGS_TOO_LONG
        for offset in range(0, len(strings), wire.STRINGS_PIECE_BYTES):
            piece = strings[offset : offset + wire.STRINGS_PIECE_BYTES]
            body = struct.pack("=II", offset, len(piece)) + piece.ljust(wire.STRINGS_PIECE_BYTES, b"\xee")
            self._emit(wire.KIND_STRINGS, process, process.exec_id, body)
        return wire.EXEC_REGISTERED

    def _emit(self, kind: int, process: FakeProcess, exec_id: int, body: bytes) -> None:
        if self.lose_next:
            self.lose_next -= 1
            self.lost += 1
            return
        self.queue.append(_HEADER.pack(kind, _HEADER.size + len(body), 7, process.proc_id, exec_id) + body)


def replace_size(facts: FileFacts, size_bytes: int) -> FileFacts:
    return a_file(**{**{name: getattr(facts, name) for name in facts.__struct_fields__}, "size_bytes": size_bytes})


def _facts(file: FileFacts) -> bytes:
    return _FILE.pack(
        file.dev, file.ino, file.size_bytes, file.mtime_ns, file.ctime_ns, file.fs_magic, file.generation, file.mode,
        file.owner_uid, file.nlink,
    )  # fmt: skip
