"""The programs of bpf/bcc in the running kernel: compiled by another process (kernel.bcc.compiling), held by ours."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent_broker.kernel.bcc import compiler
from agent_broker.kernel.bcc.btf import KernelTypes
from agent_broker.kernel.bcc.fields import defines, version_code
from agent_broker.kernel.libbpf import Libbpf
from agent_broker.kernel.loader import OBJECTS, link_id, read_all

SOURCES: Final = OBJECTS / "bcc"
"""What ``make bpf`` copies there: bpf/bcc, and bpf/events.h."""
_TEXTS: Final = ("records.h", "lineage.h", "holds.h", "tables.h")
_HOOKS: Final = (
    "sched_process_free",
    "sched_process_exit",
    "sched_process_exec",
    "sched_process_fork",
)  # in this order: kernel.loader
_OPTIONAL_HOOKS: Final[Mapping[str, str]] = {
    "sched_switch": "trace",
    "mmap_lock_acquire_returned": "memory",
    "signal_generate": "signal",
}
"""And what the backend core calls them."""
_ITERATORS: Final[Mapping[str, str]] = {"seed": "task", "files": "task_file", "mappings": "task_vma"}
_MAPS: Final = ("events", "records", "starts", "counters", "registered")
_NOT_OURS: Final = (
    "send", "guard", "map_code", "protect_code", "open", "receive", "truncate", "resize", "rename", "unlink",
    "link", "kill", "map_access", "program_access",
)  # fmt: skip
_NOT_IN_BCC: Final = "the backend bcc has no such program"
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_BPF_TRACE_ITER: Final = 28  # enum bpf_attach_type, include/uapi/linux/bpf.h


class Reading(NamedTuple):
    """What reads the kernel's tables of open files."""

    text: str
    """Its file in bpf/bcc."""
    map: str
    """What it is asked through, or answers with."""
    iterators: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    """Programs that are only loaded."""


_BY_ITERATORS: Final = Reading("iterators.h", "files_query", iterators=tuple(_ITERATORS.values()))


class BccPrograms:
    """All of bpf/bcc, attached. The same face as kernel.loader.Programs, for those who look things up by it.

    Attributes:
        libbpf: for reading maps.
        maps: file descriptors of the maps by name.
        missing: hooks of the backend core that are not here, and why.
    """

    def __init__(self, *, ring_bytes: int, sources: Path = SOURCES) -> None:
        """Compile, load and attach; about 1.5 s.

        Raises:
            UnavailableError: the package is missing, the fields of this kernel are not known, or it or the compiler
                refused.
        """
        self.libbpf = Libbpf()
        self.links: dict[str, int] = {}
        made = compiler.make(self._task(ring_bytes // _PAGE_BYTES, sources))
        self._fds = made.fds
        self.maps = {name.partition(":")[2]: fd for name, fd in made.fds.items() if name.startswith("map:")}
        self.missing = {_OPTIONAL_HOOKS[hook]: why for hook, why in made.missing.items()}
        self.missing |= dict.fromkeys(_NOT_OURS, _NOT_IN_BCC)
        self._links = {name: fd for name, fd in made.fds.items() if name.startswith("link:")}
        self._numbers = {name: link_id(self.libbpf, fd) for name, fd in self._links.items()}

    def lost_links(self) -> tuple[str, ...]:
        """Return the hooks whose link is not what it was: closed, or another's descriptor."""
        return tuple(
            name.partition(":")[2]
            for name, fd in self._links.items()
            if link_id(self.libbpf, fd) != self._numbers[name]
        )

    def _task(self, ring_pages: int, sources: Path) -> dict[str, object]:
        """Return what the compiler's process is told."""
        fields, where = self._recipe(sources)
        sizes = f"-DRING_PAGES={ring_pages}", f"-DLINUX_VERSION_CODE={version_code()}"
        return {
            "text": "\n".join((sources / name).read_text() for name in (*_TEXTS, where.text)),
            "flags": [*fields, f"-I{sources}", *sizes],
            "headers": str(sources / "stub"),
            "hooks": _HOOKS,
            "optional": list(_OPTIONAL_HOOKS),
            "iterators": where.iterators,
            "queries": where.queries,
            "maps": (*_MAPS, where.map),
        }

    def _recipe(self, sources: Path) -> tuple[tuple[str, ...], Reading]:  # noqa: ARG002 - of those that need them
        """Return where the fields lie, as the compiler's arguments, and what reads the tables of open files.

        Raises:
            UnavailableError: the kernel tells no types.
        """
        with KernelTypes() as types:
            return defines(types.offset_of), _BY_ITERATORS

    def read_iterator(self, name: str, *, pid: int = 0) -> bytes:
        """Run an iterator over all tasks, or over one process only, and return what it wrote.

        Raises:
            UnavailableError: the kernel refused.
        """
        info = (ctypes.c_uint * 4)(0, pid, 0, 0)  # union bpf_iter_link_info: task.tid, task.pid, task.pid_fd
        options = _LinkOptions(ctypes.sizeof(_LinkOptions), 0, ctypes.addressof(info), ctypes.sizeof(info))
        program = self._fds[f"program:{_ITERATORS[name]}"]
        pointer = ctypes.byref(options) if pid else None
        link = self.libbpf.number("bpf_link_create", program, 0, _BPF_TRACE_ITER, pointer)
        try:
            with os.fdopen(self.libbpf.number("bpf_iter_create", link), "rb", buffering=0) as file:
                return read_all(file.fileno())
        finally:
            os.close(link)

    def program_fds(self) -> tuple[int, ...]:
        """Return a descriptor of each program that was loaded."""
        return tuple(fd for name, fd in self._fds.items() if name.startswith("program:"))

    def detach_lsm(self, why: str) -> None:
        """Nothing: there is none."""

    def close(self) -> None:
        """Detach and unload everything; safe to call twice."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds, self._links, self.maps = {}, {}, {}


class _LinkOptions(ctypes.Structure):
    """struct bpf_link_create_opts, the fields that we use."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint),
    )
