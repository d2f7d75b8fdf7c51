"""Files that the kernel side denies by itself (bpf/marks.h has the law).

Marks are set by descriptor; an O_PATH one will do: the kernel's own numbers of the file are asked of the kernel, and
nothing is opened.
"""

import ctypes
import errno
import hashlib
import os
from collections.abc import Sequence

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.ids import AgentName, Uid
from agent_broker.kernel import wire
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.loader import Programs
from agent_broker.kernel.maps import KernelMaps

HOOKS = ("open", "receive", "truncate", "rename", "unlink", "link")
"""What denies a mark; all of them, or the tier is not ``enforce``."""


_FILTER_FACTOR, _FILTER_SHIFT, _WORD_BITS = 0x9E3779B97F4A7C15, 44, 64  # bpf/marks.h


class FileNumbers(Struct, frozen=True):
    """What names a file in the kernel; equal to those in its events."""

    dev: int
    ino: int


class KernelMarks:
    """Set marks, and say who is let through."""

    def __init__(self, programs: Programs, maps: KernelMaps) -> None:
        """Take the maps of programs with every one of HOOKS attached."""
        self._libbpf = programs.libbpf
        self._maps = programs.maps
        self._own_file, self._own_files = maps.own_file, maps.own_files
        self._marked: set[FileNumbers] = set()
        self._of_bit: dict[int, int] = {}
        """How many marks set a bit of the filter."""

    def mark(self, fd: int, agent: int) -> FileNumbers:
        """Deny the file behind a descriptor from now on; again is fine.

        Args:
            fd: of the file, O_PATH or any other.
            agent: whose it is (``agent_number``); 0: nobody's.

        Raises:
            UnavailableError: the map is full (32,768 files), or the descriptor is not open.
        """
        return self._mark(self._own_file(fd).file, agent)

    def mark_all(self, wanted: Sequence[tuple[int, int]]) -> list[FileNumbers | UnavailableError]:
        """Do ``mark`` for many descriptors and agents, and ask the kernel once; what it would raise is returned."""
        done: list[FileNumbers | UnavailableError] = []
        for (fd, agent), found in zip(wanted, self._own_files(fd for fd, _ in wanted), strict=True):
            try:
                done.append(self._mark((found or self._own_file(fd)).file, agent))
            except UnavailableError as error:
                done.append(error)
        return done

    def unmark(self, file: FileNumbers) -> None:
        """Stop denying a file; one that is not denied is fine."""
        if file in self._marked:
            self._drop("marks", file)
            self._marked.discard(file)
            self._filter(file, -1)

    def ask_about(self, fd: int) -> FileNumbers:
        """Let processes of this program pass here while we live: fanotify holds them up, and we decide.

        Raises:
            UnavailableError: the map is full (8,192 files), or the descriptor is not open.
        """
        facts = self._own_file(fd).file
        self._put("askers", wire.FILE_KEY.pack(facts.dev, facts.ino), wire.USES.pack(1))
        return FileNumbers(facts.dev, facts.ino)

    def stop_asking_about(self, file: FileNumbers) -> None:
        """Take that back."""
        self._drop("askers", file)

    def let_through(self, pidfd: int, agent: int) -> bool:
        """Let an identified process open its agent's marks until its next exec, also when we are gone.

        Returns:
            False: the process is gone, or was never recorded.
        """
        record = ctypes.create_string_buffer(wire.TASK_RECORD.size)
        key = ctypes.byref(ctypes.c_int(pidfd))
        if self._libbpf.number_or_error("bpf_map_lookup_elem", self._maps["records"], key, record) != 0:
            return False
        kernel_exec_id = wire.TASK_RECORD.unpack(record)[5]
        value = wire.OPENER.pack(agent, kernel_exec_id)
        return self._libbpf.number_or_error("bpf_map_update_elem", self._maps["openers"], key, value, 0) == 0

    def answer_for(self, pid: int) -> None:
        """Say who decides about programs that must be asked about; 0: nobody, so they are denied.

        The kernel side says 0 by itself when that process ends.
        """
        key = ctypes.byref(ctypes.c_uint(0))
        self._libbpf.number("bpf_map_update_elem", self._maps["watchman"], key, wire.WATCHMAN.pack(pid, 0), 0)

    def _mark(self, facts: FileFacts, agent: int) -> FileNumbers:
        file = FileNumbers(facts.dev, facts.ino)
        if file not in self._marked:
            self._filter(file, 1)  # before the mark, which nobody would look for
        self._put("marks", wire.FILE_KEY.pack(facts.dev, facts.ino), wire.MARK.pack(agent, facts.generation, 0))
        self._marked.add(file)
        return file

    def _filter(self, file: FileNumbers, change: int) -> None:
        """Count a mark in or out of the kernel side's filter."""
        bit = filter_bit(file)
        self._of_bit[bit] = self._of_bit.get(bit, 0) + change
        if not self._of_bit[bit]:
            del self._of_bit[bit]
        first = bit // _WORD_BITS * _WORD_BITS
        word = sum(1 << each for each in range(_WORD_BITS) if first + each in self._of_bit)
        self._put("filter", wire.FILTER_INDEX.pack(bit // _WORD_BITS), wire.FILTER_WORD.pack(word))

    def _put(self, name: str, key: bytes, value: bytes) -> None:
        error = self._libbpf.number_or_error("bpf_map_update_elem", self._maps[name], key, value, 0)
        if error:
            raise UnavailableError(f"a file can't be marked with the kernel side: {os.strerror(-error)}")

    def _drop(self, name: str, file: FileNumbers) -> None:
        key = wire.FILE_KEY.pack(file.dev, file.ino)
        error = self._libbpf.number_or_error("bpf_map_delete_elem", self._maps[name], key)
        if error not in {0, -errno.ENOENT}:
            raise UnavailableError(f"a mark can't be removed: {os.strerror(-error)}")


def filter_bit(file: FileNumbers) -> int:
    """Return the number of a file's bit in the filter (bpf/marks.h)."""
    mixed = (file.ino ^ file.dev << 32) * _FILTER_FACTOR
    return (mixed & (1 << 64) - 1) >> _FILTER_SHIFT


def agent_number(agent: AgentName | None, owner_uid: Uid) -> int:
    """Return the kernel side's number of an enrolled agent of a user; 0 for no agent."""
    if agent is None:
        return 0
    digest = hashlib.sha256(f"{agent}\0{owner_uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") | 1
