"""Typed access to the maps that user space reads and writes."""

import ctypes
import errno
import os
from collections.abc import Iterable

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.ids import ExecId, ProcId
from agent_broker.kernel import wire
from agent_broker.kernel.events import FileFacts, OpenFile
from agent_broker.kernel.loader import Loaded

_BPF_ANY, _BPF_NOEXIST = 0, 1  # include/uapi/linux/bpf.h
_TaskRecordBuffer = ctypes.c_char * wire.TASK_RECORD.size
_CountersBuffer = ctypes.c_char * wire.COUNTERS.size
_FIRST = ctypes.c_uint(0)


class TaskRecord(Struct, frozen=True, gc=False):
    """The numbers that the kernel side keeps of a process now."""

    proc_id: ProcId
    exec_id: ExecId
    taints: int
    """kernel.wire's TAINT bits: what happened to it since its exec."""


class Losses(Struct, frozen=True):
    """Events that the kernel side could not hand over, since it was loaded."""

    fork: int
    exec: int
    exit: int
    seed: int
    strings: int
    record: int
    taint: int = 0
    denial: int = 0
    """Denials that were not told; of no consequence for lineage, and not in ``total``."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.fork + self.exec + self.exit + self.seed + self.strings + self.record + self.taint


class KernelMaps:
    """Look-ups by pidfd, loss counters, registrations, and questions about open files."""

    def __init__(self, programs: Loaded) -> None:
        self._programs = programs
        self._maps = programs.maps
        self._libbpf = programs.libbpf
        self._lookup = programs.libbpf.raw("bpf_map_lookup_elem")

    def task_record(self, pidfd: int) -> TaskRecord | None:
        """Return the record of the process behind a pidfd; None: it has none, or is gone. About 2 us.

        May be called from any thread: the buffers are the call's own.

        Raises:
            UnavailableError: the kernel refused for another reason, e.g. not a pidfd.
        """
        value = _TaskRecordBuffer()
        error = self._lookup(self._maps["records"], ctypes.byref(ctypes.c_int(pidfd)), value)
        if error == 0:
            proc_id, exec_id, taints, *_ = wire.TASK_RECORD.unpack(value)
            return TaskRecord(ProcId(proc_id), ExecId(exec_id), taints)
        if error in {-errno.ENOENT, -errno.ESRCH}:
            return None
        raise UnavailableError(f"a process can't be looked up by its pidfd: {os.strerror(-error)}")

    def losses(self) -> Losses:
        """Return the loss counters.

        Raises:
            UnavailableError: the kernel refused.
        """
        value = _CountersBuffer()
        error = self._lookup(self._maps["counters"], ctypes.byref(_FIRST), value)
        if error:
            raise UnavailableError(f"the kernel's loss counters can't be read: {os.strerror(-error)}")
        return Losses(*wire.COUNTERS.unpack(value)[2:])

    def register(self, dev: int, ino: int, *, guard: bool = False) -> None:
        """Ask for the argument and environment strings of every exec of the file with these kernel numbers.

        Args:
            dev: of the file.
            ino: of the file.
            guard: also let nobody but root take hold of the processes that execute it from now on (ptrace, writing
                their memory, taking their descriptors), where the kernel can (``Programs.missing``).

        Raises:
            UnavailableError: the map is full (4,096 files).
        """
        self._register(dev, ino, wire.USE_WATCH | (wire.USE_GUARD if guard else 0))

    def register_part(self, dev: int, ino: int) -> None:
        """Let registered programs map this file's code: it is part of one. A file that is registered stays as it is.

        Raises:
            UnavailableError: the map is full (4,096 files).
        """
        self._register(dev, ino, wire.USE_PART, only_new=True)

    def unregister_part(self, dev: int, ino: int) -> None:
        """Take that back; none is fine, and a file that is registered for more stays as it is."""
        key = wire.FILE_KEY.pack(dev, ino)
        value = ctypes.create_string_buffer(wire.USES.size)
        if self._lookup(self._maps["registered"], key, value) == 0 and value.raw == wire.USES.pack(wire.USE_PART):
            self.unregister(dev, ino)

    def guard(self, pidfd: int) -> bool:
        """Let nobody but root take hold of a process as long as it runs its present image; False: it can't be done.

        That is so where the kernel has no BPF LSM (``Programs.missing``): there it is only noted that what
        descends from the process is an agent's doing; and for a process that is gone. What was held before stays held:
        it taints when it is used.
        """
        record = self.task_record(pidfd)
        if record is None:
            return False
        value = wire.EXEC_ID.pack(record.exec_id)
        key = ctypes.byref(ctypes.c_int(pidfd))
        error = self._libbpf.number_or_error("bpf_map_update_elem", self._maps["guards"], key, value, 0)
        return error == 0 and "guard" not in self._programs.missing

    def protect(self, pidfd: int) -> None:
        """Count a process among our daemons until its next exec: who signals it or takes hold of it is told or denied.

        A process that is gone, or was never recorded, is fine.
        """
        if "daemons" not in self._maps:
            return
        record = ctypes.create_string_buffer(wire.TASK_RECORD.size)
        key = ctypes.byref(ctypes.c_int(pidfd))
        if self._lookup(self._maps["records"], key, record) == 0:
            value = wire.EXEC_ID.pack(wire.TASK_RECORD.unpack(record)[5])
            self._libbpf.number_or_error("bpf_map_update_elem", self._maps["daemons"], key, value, 0)

    def protect_objects(self) -> None:
        """Let nobody else get at our maps and programs by their numbers, where the kernel can deny it; root is told."""
        if "ours" not in self._maps:
            return
        for operation, fds in (
            (wire.OPERATION_MAP, self._maps.values()),
            (wire.OPERATION_PROGRAM, self._programs.program_fds()),
        ):
            for fd in fds:
                key = wire.OBJECT_KEY.pack(operation, self._object_id(fd))
                self._libbpf.number("bpf_map_update_elem", self._maps["ours"], key, wire.USES.pack(1), 0)

    def _object_id(self, fd: int) -> int:
        info = (ctypes.c_uint * 2)()  # the first two fields of bpf_map_info and of bpf_prog_info: type, id
        size = ctypes.c_uint(ctypes.sizeof(info))
        self._libbpf.number("bpf_obj_get_info_by_fd", fd, ctypes.byref(info), ctypes.byref(size))
        return int(info[1])

    def unregister(self, dev: int, ino: int) -> None:
        """Take a registration back; none is fine."""
        key = wire.FILE_KEY.pack(dev, ino)
        error = self._libbpf.number_or_error("bpf_map_delete_elem", self._maps["registered"], key)
        if error not in {0, -errno.ENOENT}:
            raise UnavailableError(f"a registration can't be removed: {os.strerror(-error)}")

    def own_file(self, fd: int) -> OpenFile:
        """Return the kernel's numbers of a descriptor of this process.

        Raises:
            UnavailableError: it is not open.
        """
        self._ask(wire.FILES_QUERY.pack(0, os.getpid(), fd))
        found = wire.decode_open_files(self._programs.read_iterator("files", pid=os.getpid()))
        if len(found) != 1:
            raise UnavailableError(f"descriptor {fd} was found {len(found)} times in the kernel's tables")
        return found[0]

    def own_files(self, fds: Iterable[int]) -> tuple[OpenFile | None, ...]:
        """Return the kernel's numbers of descriptors of this process, in one walk over all that it has.

        Returns:
            One for each, in order; None: it is not open.
        """
        self._ask(wire.FILES_QUERY.pack(0, os.getpid(), wire.EVERY_DESCRIPTOR))
        found = wire.decode_open_files(self._programs.read_iterator("files", pid=os.getpid()))
        by_fd = {each.fd: each for each in found}
        return tuple(by_fd.get(fd) for fd in fds)

    def socket_holders(self, inode: int, *, pid: int = 0) -> tuple[OpenFile, ...]:
        """Return every descriptor in the machine, or of one process, that is the socket with this inode (not 0).

        Descriptors in flight (SCM_RIGHTS not yet received) and registered with an io_uring are in no table; the
        ``references`` count them.
        """
        self._ask(wire.FILES_QUERY.pack(inode, 0, 0))
        return wire.decode_open_files(self._programs.read_iterator("files", pid=pid))

    def other_end_of(self, inode: int, *, pid: int = 0) -> int:
        """Return the inode number of the unix socket that is connected to this one, in whatever namespace; 0: none.

        Exact while somebody keeps the socket with this inode open: no other socket is ever at its other end. With a
        ``pid``, only that process's descriptors are looked through.
        """
        self._ask(wire.FILES_QUERY.pack(inode, 1, 0))
        found = wire.decode_open_files(self._programs.read_iterator("files", pid=pid))
        return found[0].file.ino if len({each.file.ino for each in found}) == 1 else 0

    def foreign_mappings(self, pid: int) -> tuple[FileFacts, ...]:
        """Return the files of a process's executable mappings that others than root could have made."""
        found = wire.decode_open_files(self._programs.read_iterator("mappings", pid=pid))
        return tuple(dict.fromkeys(each.file for each in found))

    def watch_endpoints(self, tcp_port: int, name: FileFacts | None, sign_name: FileFacts | None = None) -> bool:
        """Note from now on who writes on connections to the broker; return False if this kernel can't tell.

        Args:
            tcp_port: where it listens; 0: nowhere.
            name: the kernel's numbers of the name of its unix socket; None: it has none.
            sign_name: the same of its ssh-agent socket.
        """
        if "endpoints" not in self._maps or "send" in self._programs.missing:
            return False
        numbers = [(each.dev, each.ino) if each is not None else (0, 0) for each in (name, sign_name)]
        key = ctypes.byref(ctypes.c_uint(0))
        value = wire.ENDPOINTS.pack(*numbers[0], *numbers[1], tcp_port, 0)
        self._libbpf.number("bpf_map_update_elem", self._maps["endpoints"], key, value, 0)
        return True

    def _register(self, dev: int, ino: int, uses: int, *, only_new: bool = False) -> None:
        key, value = wire.FILE_KEY.pack(dev, ino), wire.USES.pack(uses)
        flags = _BPF_NOEXIST if only_new else _BPF_ANY
        error = self._libbpf.number_or_error("bpf_map_update_elem", self._maps["registered"], key, value, flags)
        if error and not (only_new and error == -errno.EEXIST):
            raise UnavailableError(f"a file can't be registered with the kernel side: {os.strerror(-error)}")

    def _ask(self, query: bytes) -> None:
        key = ctypes.byref(ctypes.c_uint(0))
        self._libbpf.number("bpf_map_update_elem", self._maps["files_query"], key, query, 0)
