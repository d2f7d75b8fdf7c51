"""Loads the compiled objects, gives them one set of maps, attaches them; closing detaches everything.

Attached in the order exit, exec, fork: a fork that is seen has its exec and exit seen too. Then the seed iterator
gives every older process its numbers (kernel.seed).
"""

import ctypes
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from agent_broker.errors import UnavailableError
from agent_broker.kernel.libbpf import Libbpf

OBJECTS = Path(__file__).parent / "objects"
_HOOKS = ("exit", "exec", "fork")
_OPTIONAL_HOOKS = ("trace", "memory", "send", "signal")
_LSM_HOOKS = (
    "guard", "map_code", "protect_code", "open", "receive", "truncate", "resize", "rename", "unlink", "link",
    "kill", "map_access", "program_access",
)  # fmt: skip
_VARIANTS = {"resize": ("resize", "resize_idmap")}
"""The objects of a hook whose arguments differ between kernels: each refuses all but its own."""
_ITERATORS = ("seed", "files", "mappings")
_SHARED_MAPS = (
    "events", "records", "counters", "registered", "senders", "guards", "watchman",
    "marks", "filter", "askers", "openers", "opens", "daemons", "ours",
)  # fmt: skip


class Loaded(Protocol):
    """Programs in the running kernel, of whichever backend."""

    libbpf: Libbpf
    maps: dict[str, int]
    missing: dict[str, str]
    links: dict[str, int]

    def lost_links(self) -> tuple[str, ...]:
        """Return the hooks that were attached, and whose link is not what it was."""
        ...

    def read_iterator(self, name: str, *, pid: int = 0) -> bytes:
        """Run an iterator over all tasks, or over one process only, and return what it wrote."""
        ...

    def program_fds(self) -> tuple[int, ...]:
        """Return a descriptor of each program that was loaded."""
        ...

    def detach_lsm(self, why: str) -> None:
        """Take back what needs BPF LSM."""
        ...

    def close(self) -> None:
        """Detach and unload everything that is not pinned; safe to call twice."""
        ...


class Programs:
    """All our programs in the running kernel. Needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN.

    Attributes:
        libbpf: the library they were loaded with.
        maps: file descriptors of the maps by name.
        missing: hooks that this kernel does not have, and why; the others are attached.
        links: of the attached hooks, by name.
    """

    def __init__(self, *, ring_bytes: int | None = None, folder: Path = OBJECTS) -> None:
        """Load and attach.

        Args:
            ring_bytes: size of the event ring, a power of two and a multiple of the page size; None: as compiled.
            folder: where the objects lie.

        Raises:
            UnavailableError: the kernel or libbpf refused; nothing stays attached.
        """
        self.libbpf = Libbpf()
        self.maps: dict[str, int] = {}
        self.missing: dict[str, str] = {}
        self._ring_bytes = ring_bytes
        self._objects: list[int] = []
        self.links: dict[str, int] = {}
        self._iterators: dict[str, int] = {}
        self._programs: list[int] = []
        self._attached: dict[str, tuple[int, int]] = {}
        """Each hook's link, and the number that the kernel gave it."""
        try:
            programs = {name: self._load(folder / f"{name}.bpf.o") for name in (*_HOOKS, *_ITERATORS)}
            for name in _HOOKS:
                self._attach(name, programs[name])
            for name in _ITERATORS:
                self._iterators[name] = programs[name]
            for name in _OPTIONAL_HOOKS:
                self._attach_if_possible(name, folder)
            self._attach_lsm(folder)
        except UnavailableError:
            self.close()
            raise

    def _attach(self, name: str, program: int) -> None:
        link = self.libbpf.pointer("bpf_program__attach", program)
        self.links[name] = link
        self._attached[name] = (link, self._link_id(link))

    def _attach_if_possible(self, name: str, folder: Path) -> None:
        """Attach a hook that not every kernel has; what does without it is told by ``missing``."""
        refusal = ""
        for variant in _VARIANTS.get(name, (name,)):
            try:
                self._attach(name, self._load(folder / f"{variant}.bpf.o"))
            except UnavailableError as error:
                refusal = refusal or error.message
            else:
                return
        self.missing[name] = refusal

    def _attach_lsm(self, folder: Path) -> None:
        """Attach what needs BPF LSM; a kernel that refuses the first refuses all, so the others are not tried."""
        for name in _LSM_HOOKS:
            if _LSM_HOOKS[0] in self.missing:
                self.missing[name] = self.missing[_LSM_HOOKS[0]]
            else:
                self._attach_if_possible(name, folder)

    def detach_lsm(self, why: str) -> None:
        """Take back what needs BPF LSM, on a kernel that attaches it and never asks it; ``missing`` says why."""
        for name in _LSM_HOOKS:
            link = self.links.pop(name, None)
            if link is not None:
                self.libbpf.number("bpf_link__destroy", link)
                del self._attached[name]
            self.missing.setdefault(name, why)

    def lost_links(self) -> tuple[str, ...]:
        """Return the hooks that were attached, and whose link is not what it was: closed, or another's descriptor."""
        return tuple(name for name, link in self._attached.items() if self._link_id(link[0]) != link[1])

    def _link_id(self, link: int) -> int:
        return link_id(self.libbpf, self.libbpf.number("bpf_link__fd", link))

    def read_iterator(self, name: str, *, pid: int = 0) -> bytes:
        """Run an iterator over all tasks, or over one process only, and return what it wrote.

        Raises:
            UnavailableError: the kernel refused.
        """
        info = (ctypes.c_uint * 4)(0, pid, 0, 0)  # union bpf_iter_link_info: task.tid, task.pid, task.pid_fd
        options = _IterOptions(ctypes.sizeof(_IterOptions), ctypes.addressof(info), ctypes.sizeof(info))
        pointer = ctypes.byref(options) if pid else None
        link = self.libbpf.pointer("bpf_program__attach_iter", self._iterators[name], pointer)
        try:
            fd = self.libbpf.number("bpf_iter_create", self.libbpf.number("bpf_link__fd", link))
            try:
                return read_all(fd)
            finally:
                os.close(fd)
        finally:
            self.libbpf.number("bpf_link__destroy", link)

    def program_fds(self) -> tuple[int, ...]:
        """Return a descriptor of each program that was loaded."""
        return tuple(self.libbpf.number("bpf_program__fd", each) for each in self._programs)

    def close(self) -> None:
        """Detach and unload everything that is not pinned; safe to call twice."""
        for link in self.links.values():
            self.libbpf.number("bpf_link__destroy", link)
        for opened in self._objects:
            self.libbpf.release("bpf_object__close", opened)
        self.links, self._objects, self._programs, self.maps, self._attached = {}, [], [], {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, path: Path) -> int:
        """Load one object and return its only program."""
        if not path.is_file():
            raise UnavailableError(f"{path} is missing", next_step="build it: make bpf")
        opened = self.libbpf.pointer("bpf_object__open_file", os.fsencode(path), None)
        self._objects.append(opened)
        self._share_maps(opened)
        self.libbpf.number("bpf_object__load", opened)
        each = None
        while each := self.libbpf.optional_pointer("bpf_object__next_map", opened, each):
            self.maps.setdefault(self.libbpf.name("bpf_map__name", each), self.libbpf.number("bpf_map__fd", each))
        program = self.libbpf.optional_pointer("bpf_object__next_program", opened, None)
        if program is None:
            raise UnavailableError(f"{path} holds no program", next_step="build it again: make bpf")
        self._programs.append(program)
        return program

    def _share_maps(self, opened: int) -> None:
        for name in _SHARED_MAPS:
            each = self.libbpf.optional_pointer("bpf_object__find_map_by_name", opened, name.encode())
            if each is None:
                continue
            if name in self.maps:
                self.libbpf.number("bpf_map__reuse_fd", each, self.maps[name])
            elif name == "events" and self._ring_bytes is not None:
                self.libbpf.number("bpf_map__set_max_entries", each, self._ring_bytes)


class _IterOptions(ctypes.Structure):
    """struct bpf_iter_attach_opts."""

    _fields_ = (("sz", ctypes.c_size_t), ("link_info", ctypes.c_void_p), ("link_info_len", ctypes.c_uint))


def link_id(libbpf: Libbpf, fd: int) -> int:
    """Return the kernel's number of the attached link with this descriptor; 0: it is none."""
    info = (ctypes.c_uint * 64)()  # struct bpf_link_info: type, id, prog_id, ...
    size = ctypes.c_uint(ctypes.sizeof(info))
    if libbpf.number_or_error("bpf_obj_get_info_by_fd", fd, info, ctypes.byref(size)) < 0:
        return 0
    return int(info[1]) if info[2] else 0


def read_all(fd: int) -> bytes:
    """Return what is left in a file."""
    pieces = []
    while piece := os.read(fd, 64 * 1024):
        pieces.append(piece)
    return b"".join(pieces)
