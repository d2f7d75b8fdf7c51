"""Look-ups without BTF, so without iterators: programs that we run ourselves, for one process (bpf/bcc/queries.h).

Law: what is not found counts as being somewhere else. A socket's open file tells how many references it has, and
attestation wants each of them found in one process (identity.connection). So a table that is not looked through (of a
thread that left its process's, of a process whose first thread has ended), or changes meanwhile, refuses, and never
allows.

A process is named by a pidfd, and its number is compared by the program itself: what it says is of the process that had
the number when the pidfd was opened.
"""

import ctypes
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from agent_broker.errors import UnavailableError
from agent_broker.kernel import wire
from agent_broker.kernel.bcc import compiler, headers
from agent_broker.kernel.bcc.map_files import executable_files
from agent_broker.kernel.bcc.programs import SOURCES, BccPrograms, Reading
from agent_broker.kernel.bcc.records import BccMaps
from agent_broker.kernel.events import FileFacts, OpenFile

_READING: Final = Reading("queries.h", "answer", queries=("seed", "look"))
_OWN: Final = 0xFFFFFFFF
_ALL, _MORE, _FOUND, _GONE = range(4)  # enum looked
_LOOK_FDS: Final = 128
_PROC: Final = Path("/proc")
_OTHERS_WRITE: Final = 0o022
_WORDS: Final = 5


class _RunOptions(ctypes.Structure):
    """struct bpf_test_run_opts (libbpf's bpf.h)."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint),
        ("data_size_out", ctypes.c_uint),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint),
        ("ctx_size_out", ctypes.c_uint),
        ("retval", ctypes.c_uint),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("cpu", ctypes.c_uint),
        ("batch_size", ctypes.c_uint),
    )


class _Wanted(NamedTuple):
    """What is looked for."""

    socket_ino: int
    """0: a descriptor."""
    by_other_end: bool
    """Not this socket but that at its other end."""


_DESCRIPTOR: Final = _Wanted(0, by_other_end=False)


class QueriedPrograms(BccPrograms):
    """Compiled by the headers of the running kernel."""

    def __init__(self, *, ring_bytes: int, sources: Path = SOURCES, root: Path = headers.ROOT) -> None:
        """See BccPrograms; ``root``: of the file system where the headers are.

        Raises:
            UnavailableError: too: the headers are missing, or not the running kernel's.
        """
        self._root = root
        super().__init__(ring_bytes=ring_bytes, sources=sources)

    def read_iterator(self, name: str, *, pid: int = 0) -> bytes:
        """Give every live process a record; there is nothing else to be read so.

        Raises:
            UnavailableError: the kernel refused.
        """
        if name != "seed":
            raise UnavailableError(f"without BTF there is no iteration over {name}", next_step="a kernel with BTF")
        for each in (pid,) if pid else _pids():
            with _process(each) as pidfd:
                if pidfd is not None:
                    self.run("seed", pidfd, each)
        return b""

    def run(self, name: str, *arguments: int) -> int:
        """Run a program in this thread; return what it returns. About 2 us.

        Raises:
            UnavailableError: the kernel refused (before Linux 5.10 it can't).
        """
        words = (ctypes.c_ulonglong * _WORDS)(*arguments)
        options = _RunOptions(sz=ctypes.sizeof(_RunOptions), ctx_in=ctypes.addressof(words))
        options.ctx_size_in = ctypes.sizeof(words)
        self.libbpf.number("bpf_prog_test_run_opts", self._fds[f"program:{name}"], ctypes.byref(options))
        return int(options.retval)

    def _recipe(self, sources: Path) -> tuple[tuple[str, ...], Reading]:
        found = headers.of_running_kernel(self._root)
        text, names = headers.questions(found)
        task = {"text": text, "flags": found.flags(), "headers": str(sources / "headers"), "numbers": names}
        return headers.defines(found, compiler.numbers(task)), _READING


class QueryMaps(BccMaps):
    """Look-ups by pidfd, loss counters, registrations, and questions about open files."""

    def __init__(self, programs: QueriedPrograms) -> None:
        super().__init__(programs)
        self._run = programs.run
        self._answer = programs.maps["answer"]
        self._one = threading.Lock()  # the answer's place is one

    def own_file(self, fd: int) -> OpenFile:
        """See KernelMaps."""
        found = self._own(fd)
        if found is None:
            raise UnavailableError(f"descriptor {fd} was not found in the kernel's tables")
        return found

    def own_files(self, fds: Iterable[int]) -> tuple[OpenFile | None, ...]:
        """See KernelMaps."""
        return tuple(self._own(fd) for fd in fds)

    def socket_holders(self, inode: int, *, pid: int = 0) -> tuple[OpenFile, ...]:
        """See KernelMaps, and the law of the module."""
        return tuple(self._sockets(_Wanted(inode, by_other_end=False), pid))

    def other_end_of(self, inode: int, *, pid: int = 0) -> int:
        """See KernelMaps."""
        found = {each.file.ino for each in self._sockets(_Wanted(inode, by_other_end=True), pid)}
        return found.pop() if len(found) == 1 else 0

    def foreign_mappings(self, pid: int) -> tuple[FileFacts, ...]:
        """See KernelMaps.

        Raises:
            UnavailableError: too: its mappings change faster than they can be looked at.
        """
        with executable_files(pid) as fds:
            found = [self.own_file(fd).file for fd in fds]
        return tuple(dict.fromkeys(each for each in found if _others_could_make(each)))

    def _own(self, fd: int) -> OpenFile | None:
        found = self._look(_OWN, os.getpid(), _DESCRIPTOR, fd)
        return found if isinstance(found, OpenFile) else None

    def _sockets(self, wanted: _Wanted, pid: int) -> Iterator[OpenFile]:
        for each in (pid,) if pid else _pids():
            with _process(each) as pidfd:
                if pidfd is not None:
                    yield from self._of_process(pidfd, each, wanted)

    def _of_process(self, pidfd: int, pid: int, wanted: _Wanted) -> Iterator[OpenFile]:
        fd = 0
        while True:
            found = self._look(pidfd, pid, wanted, fd)
            if isinstance(found, OpenFile):
                yield found
                fd = found.fd + 1
            elif found == _MORE:
                fd += _LOOK_FDS
            else:
                return

    def _look(self, pidfd: int, pid: int, wanted: _Wanted, fd: int) -> OpenFile | int:
        """Return the first such descriptor from ``fd`` on, or why there is none."""
        with self._one:
            looked = self._run("look", pidfd, pid, *wanted, fd)
            if looked != _FOUND:
                return looked
            value = ctypes.create_string_buffer(wire.OPEN_FILE_BYTES)
            self._libbpf.number("bpf_map_lookup_elem", self._answer, ctypes.byref(ctypes.c_uint(0)), value)
        return wire.decode_open_files(value.raw)[0]


def _others_could_make(file: FileFacts) -> bool:
    """Return whether others than root can have decided what is in it (bpf/maps.h, others_could_make)."""
    return file.owner_uid != 0 or bool(file.mode & _OTHERS_WRITE) or file.nlink == 0


def _pids() -> tuple[int, ...]:
    return tuple(int(each.name) for each in _PROC.iterdir() if each.name.isdecimal())


@contextmanager
def _process(pid: int) -> Iterator[int | None]:
    """Open a pidfd; None: there is no such process.

    Raises:
        UnavailableError: we have too many descriptors.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    except OSError as error:
        raise UnavailableError(f"process {pid} can't be looked at: {error.strerror}") from error
    try:
        yield pidfd
    finally:
        os.close(pidfd)
