"""Looks for secrets where an attacker with the user's rights, and more, would: memory, environments, files.

A search that finds nothing proves something only if it can find: callers also look for a value that must be there.
"""

import contextlib
import os
import subprocess
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from tests.demo.check import StepFailedError

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY_BYTES = 8  # of /proc/PID/pagemap
_IN_USE = (1 << 63) | (1 << 62)  # present, or swapped out; Documentation/admin-guide/mm/pagemap.rst
_MAP_CHUNK = 1 << 20  # bytes of pagemap at a time: 512 MiB of addresses
_READ_CHUNK = 8 << 20
_NOTHING = bytes(_MAP_CHUNK)
_CORE_CHARS = slice(24, 72)  # of a secret: its head may be overwritten when memory is freed
_GREP_NONE = 1


class Searched(Struct):
    """What was looked at, and what was found."""

    processes: set[int]
    bytes_read: int = 0
    found: dict[str, set[str]] = {}
    """Name of the secret: places."""

    def add(self, name: str, place: str) -> None:
        """Note a find."""
        self.found.setdefault(name, set()).add(place)


def search_processes(pids: Iterable[int], secrets: Mapping[str, str], into: Searched) -> None:
    """Search environment, command line and all memory in use of processes, as root can."""
    needles = [(name, coded) for name, value in secrets.items() for coded in _codings(value[_CORE_CHARS] or value)]
    for pid in pids:
        try:
            _search_process(pid, needles, into)
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue


def _search_process(pid: int, needles: list[tuple[str, bytes]], into: Searched) -> None:
    for file in ("environ", "cmdline"):
        _search_bytes(Path(f"/proc/{pid}/{file}").read_bytes(), needles, f"/proc/{pid}/{file}", into)
    overlap = max(len(coded) for _, coded in needles)
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory, Path(f"/proc/{pid}/pagemap").open("rb", 0) as pagemap:
        for start, end in _ranges(pid):
            for first, last in _runs_in_use(pagemap.fileno(), start, end):
                for data in _read(memory.fileno(), first, last, overlap):
                    into.bytes_read += len(data)
                    _search_bytes(data, needles, f"memory of process {pid}", into)
    into.processes.add(pid)


def _ranges(pid: int) -> list[tuple[int, int]]:
    """Return the address ranges that hold something."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, _, rest = line.partition(" ")
        if not rest.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
            start, _, end = addresses.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _runs_in_use(pagemap: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) addresses of neighbouring pages that are in use: programs reserve far more than they use."""
    begun = None
    for offset in range(start // _PAGE * _ENTRY_BYTES, end // _PAGE * _ENTRY_BYTES, _MAP_CHUNK):
        entries = os.pread(pagemap, min(_MAP_CHUNK, end // _PAGE * _ENTRY_BYTES - offset), offset)
        page = offset // _ENTRY_BYTES * _PAGE
        if begun is None and entries == _NOTHING[: len(entries)]:
            continue
        for number, entry in enumerate(array("Q", entries)):
            if entry & _IN_USE:
                begun = page + number * _PAGE if begun is None else begun
            elif begun is not None:
                yield begun, page + number * _PAGE
                begun = None
    if begun is not None:
        yield begun, end


def _read(memory: int, first: int, last: int, overlap: int) -> Iterator[bytes]:
    for at in range(first, last, _READ_CHUNK):
        with contextlib.suppress(OSError):  # given back meanwhile
            yield os.pread(memory, min(_READ_CHUNK + overlap, last - at), at)


def _search_bytes(data: bytes, needles: list[tuple[str, bytes]], place: str, into: Searched) -> None:
    for name, coded in needles:
        if coded in data:
            into.add(name, place)


def _codings(text: str) -> tuple[bytes, bytes]:
    """Return how JavaScript engines hold a string."""
    return text.encode(), text.encode("utf-16-le")


def grep(secrets: Mapping[str, str], *folders: Path) -> list[Path]:
    """Return the files below folders that hold one of the secrets, as grep finds them."""
    command = ["grep", "-rlaF", "-f", "-", *map(str, folders)]
    done = subprocess.run(
        command, input="\n".join(secrets.values()), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode > _GREP_NONE or done.stderr:
        raise StepFailedError("grep to read every file", done.stderr.strip())
    return sorted(map(Path, done.stdout.splitlines()))
