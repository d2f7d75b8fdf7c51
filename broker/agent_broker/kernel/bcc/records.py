"""Look-ups by pidfd without task storage: a record lies under its process's number and start time.

Law: a record is only given away if the process behind the pidfd was not reaped yet after it was read. Its number is
another process's only after that, so until then what lies under the number is what belongs to the pidfd.
"""

import ctypes
import errno
import os
import struct
from typing import Final

from agent_broker.errors import UnavailableError
from agent_broker.ids import ExecId, ProcId
from agent_broker.kernel.bcc.programs import BccPrograms
from agent_broker.kernel.maps import KernelMaps, TaskRecord
from agent_broker.kernel.process import pid_of

PROCESS: Final = struct.Struct("=QQQQ8sII")
"""struct process of bpf/bcc/records.h: proc_id, exec_id, written_mm, kernel_exec_id, taints, watched."""
_KEY: Final = struct.Struct("=QII")  # struct task_key: start_ns, tgid


class BccMaps(KernelMaps):
    """Look-ups by pidfd, loss counters, registrations, and questions about open files."""

    def __init__(self, programs: BccPrograms) -> None:
        super().__init__(programs)
        self._records, self._starts = programs.maps["records"], programs.maps["starts"]

    def task_record(self, pidfd: int) -> TaskRecord | None:
        """See KernelMaps. About 10 us."""
        key = self._key_of(pidfd)
        value = ctypes.create_string_buffer(PROCESS.size)
        if key is None or self._get(self._records, key, value) or pid_of(pidfd) is None:
            return None
        proc_id, exec_id, _, _, taints, _, _ = PROCESS.unpack(value)
        return TaskRecord(ProcId(proc_id), ExecId(exec_id), sum(1 << at for at, byte in enumerate(taints) if byte))

    def start_ns(self, pidfd: int) -> int | None:
        """Return when the process behind a pidfd began, CLOCK_BOOTTIME; None: it has no record."""
        key = self._key_of(pidfd)
        return None if key is None else int(_KEY.unpack(key)[0])

    def guard(self, pidfd: int) -> bool:  # noqa: ARG002 - the protocol's
        """See KernelMaps: nobody can be kept away here."""
        return False

    def _key_of(self, pidfd: int) -> bytes | None:
        pid = pid_of(pidfd)
        start = ctypes.c_ulonglong()
        if pid is None or self._get(self._starts, ctypes.byref(ctypes.c_uint(pid)), ctypes.byref(start)):
            return None
        return _KEY.pack(start.value, pid, 0)

    def _get(self, map_fd: int, key: object, value: object) -> bool:
        """Look a key up; return whether there is none.

        Raises:
            UnavailableError: the kernel refused for another reason.
        """
        error = self._lookup(map_fd, key, value)
        if error not in {0, -errno.ENOENT}:
            raise UnavailableError(f"a process can't be looked up: {os.strerror(-error)}")
        return bool(error)
