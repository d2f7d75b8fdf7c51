"""Files that the kernel side denies by itself (bpf/marks.h has the law).

Marks are set by descriptor; an O_PATH one will do: the kernel's own numbers of the file are asked of the kernel, and
nothing is opened.
"""

import ctypes
import errno
import hashlib
import os
from collections.abc import Collection, Sequence

from msgspec import Struct

from agent_broker.errors import UnavailableError
from agent_broker.ids import AgentName, Uid
from agent_broker.kernel import wire
from agent_broker.kernel.events import FileFacts
from agent_broker.kernel.loader import Loaded
from agent_broker.kernel.maps import KernelMaps

HOOKS = ("open", "receive", "truncate", "resize", "rename", "unlink", "link")
"""What denies a mark; all of them, or the tier is not ``enforce``."""


_FILTER_FACTOR, _FILTER_SHIFT, _WORD_BITS = 0x9E3779B97F4A7C15, 44, 64  # bpf/marks.h


class FileNumbers(Struct, frozen=True):
    """What names a file in the kernel; equal to those in its events."""

    dev: int
    ino: int


class KernelMarks:
    """Set marks, and say who is let through."""

    def __init__(self, programs: Loaded, maps: KernelMaps) -> None:
        """Take the maps of programs with every one of HOOKS attached."""
        self._libbpf = programs.libbpf
        self._maps = programs.maps
        self._own_file, self._own_files = maps.own_file, maps.own_files
        self._marked: set[FileNumbers] = set()
        self._of_bit: dict[int, int] = {}
        """How many marks set a bit of the filter."""
        self._words: dict[int, int] = {}
        """What was told of the filter, or is about to be, by a word's number."""

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
        """Do ``mark`` for many descriptors and agents with three questions to the kernel in all.

        Returns:
            For each, what ``mark`` would return or raise.
        """
        done: list[FileNumbers | UnavailableError] = []
        values: dict[int, bytes] = {}
        for place, ((fd, agent), found) in enumerate(zip(wanted, self._own_files(fd for fd, _ in wanted), strict=True)):
            try:
                facts = (found or self._own_file(fd)).file
            except UnavailableError as error:
                done.append(error)
            else:
                done.append(FileNumbers(facts.dev, facts.ino))
                values[place] = wire.MARK.pack(agent, facts.generation, 0)
        files = {place: file for place in values if isinstance(file := done[place], FileNumbers)}
        for place, refusal in self._put_marks(files, values).items():
            done[place] = refusal
        return done

    def prove(self) -> bool:
        """Tell whether the kernel asks our programs at all, by an open of a file of our own that they must refuse.

        A kernel with BPF LSM whose list of security modules (``lsm=``) lacks ``bpf`` attaches them, and never asks.

        Raises:
            UnavailableError: the file can't be made, or marked.
        """
        fd = os.memfd_create("agent-broker-probe", os.MFD_CLOEXEC)
        try:
            file = self._mark(self._own_file(fd).file, 0, is_probe=True)
            try:
                os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
            except PermissionError:
                return True
            finally:
                self.unmark(file)
        except OSError as error:
            raise UnavailableError(f"a file to try denial with can't be opened: {error.strerror}") from error
        finally:
            os.close(fd)
        return False

    def unmark(self, file: FileNumbers) -> None:
        """Stop denying a file; one that is not denied is fine."""
        if file in self._marked:
            self._drop("marks", file)
            self._marked.discard(file)
            self._put_words({self._count(filter_bit(file), -1)})

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

    def _mark(self, facts: FileFacts, agent: int, *, is_probe: bool = False) -> FileNumbers:
        file = FileNumbers(facts.dev, facts.ino)
        refused = self._put_marks({0: file}, {0: wire.MARK.pack(agent, facts.generation, is_probe)})
        for error in refused.values():
            raise error
        return file

    def _put_marks(self, files: dict[int, FileNumbers], values: dict[int, bytes]) -> dict[int, UnavailableError]:
        """Deny files; return, under the same keys, why some are not."""
        new = set(files.values()) - self._marked
        words = {self._count(filter_bit(file), 1) for file in new}
        keys = [wire.FILE_KEY.pack(file.dev, file.ino) for file in files.values()]
        try:
            self._put_words(words)  # before the marks, which nobody would look for
            refusals = self._put_all("marks", keys, [values[place] for place in files])
        except UnavailableError as error:
            refusals = [error] * len(files)
        refused: dict[int, UnavailableError] = {}
        for (place, file), refusal in zip(files.items(), refusals, strict=True):
            if refusal is None:
                self._marked.add(file)
            else:
                refused[place] = refusal
        self._put_words({self._count(filter_bit(file), -1) for file in new - self._marked})
        return refused

    def _count(self, bit: int, change: int) -> int:
        """Count a mark in or out of the kernel side's filter; return the number of the word that holds the bit."""
        word, mask = bit // _WORD_BITS, 1 << bit % _WORD_BITS
        self._of_bit[bit] = self._of_bit.get(bit, 0) + change
        self._words[word] = self._words.get(word, 0) | mask
        if not self._of_bit[bit]:
            del self._of_bit[bit]
            self._words[word] ^= mask
        return word

    def _put_words(self, words: Collection[int]) -> None:
        """Tell the kernel side these words of the filter."""
        keys = [wire.FILTER_INDEX.pack(word) for word in words]
        for error in self._put_all("filter", keys, [wire.FILTER_WORD.pack(self._words[word]) for word in words]):
            if error is not None:
                raise error

    def _put_all(self, name: str, keys: Sequence[bytes], values: Sequence[bytes]) -> list[UnavailableError | None]:
        """Set entries of a map with one question; return why each is not set, None if it is."""
        if not keys:
            return []
        count = ctypes.byref(ctypes.c_uint(len(keys)))
        batch = self._maps[name], b"".join(keys), b"".join(values), count, None
        if self._libbpf.number_or_error("bpf_map_update_batch", *batch) == 0:
            return [None] * len(keys)
        return [self._refusal(name, *each) for each in zip(keys, values, strict=True)]  # which of them, and why

    def _put(self, name: str, key: bytes, value: bytes) -> None:
        refusal = self._refusal(name, key, value)
        if refusal is not None:
            raise refusal

    def _refusal(self, name: str, key: bytes, value: bytes) -> UnavailableError | None:
        error = self._libbpf.number_or_error("bpf_map_update_elem", self._maps[name], key, value, 0)
        if not error:
            return None
        return UnavailableError(f"a file can't be marked with the kernel side: {os.strerror(-error)}")

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
