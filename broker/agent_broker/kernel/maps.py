"""Typed access to the maps that user space reads and writes."""

import ctypes
import errno
import os

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.ids import ExecId, ProcId
from agent_broker.kernel import wire
from agent_broker.kernel.events import OpenFile
from agent_broker.kernel.loader import Programs

_TaskRecordBuffer = ctypes.c_char * wire.TASK_RECORD.size


class TaskRecord(Struct, frozen=True, gc=False):
    """The numbers that the kernel side keeps of a process now."""

    proc_id: ProcId
    exec_id: ExecId
    taint_generation: int


class Losses(Struct, frozen=True):
    """Events that the kernel side could not hand over, since it was loaded."""

    fork: int
    exec: int
    exit: int
    seed: int
    strings: int
    record: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.fork + self.exec + self.exit + self.seed + self.strings + self.record


class KernelMaps:
    """Look-ups by pidfd, loss counters, registrations, and questions about open files."""

    def __init__(self, programs: Programs) -> None:
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
            proc_id, exec_id, taint = wire.TASK_RECORD.unpack(value)
            return TaskRecord(ProcId(proc_id), ExecId(exec_id), taint)
        if error in {-errno.ENOENT, -errno.ESRCH}:
            return None
        raise UnavailableError(f"a process can't be looked up by its pidfd: {os.strerror(-error)}")

    def losses(self) -> Losses:
        """Return the loss counters."""
        value = ctypes.create_string_buffer(wire.COUNTERS.size)
        self._libbpf.number("bpf_map_lookup_elem", self._maps["counters"], ctypes.byref(ctypes.c_uint(0)), value)
        return Losses(*wire.COUNTERS.unpack(value)[2:])

    def register(self, dev: int, ino: int) -> None:
        """Ask for the argument and environment strings of every exec of the file with these kernel numbers.

        Raises:
            UnavailableError: the map is full (4,096 files).
        """
        key = wire.FILE_KEY.pack(dev, ino)
        self._libbpf.number("bpf_map_update_elem", self._maps["registered"], key, b"\1\0\0\0", 0)

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

    def socket_holders(self, inode: int) -> tuple[OpenFile, ...]:
        """Return every descriptor in the machine that is the socket with this inode number (not 0).

        Descriptors in flight (SCM_RIGHTS not yet received) and registered with an io_uring are in no table.
        """
        self._ask(wire.FILES_QUERY.pack(inode, 0, 0))
        return wire.decode_open_files(self._programs.read_iterator("files"))

    def _ask(self, query: bytes) -> None:
        key = ctypes.byref(ctypes.c_uint(0))
        self._libbpf.number("bpf_map_update_elem", self._maps["files_query"], key, query, 0)
