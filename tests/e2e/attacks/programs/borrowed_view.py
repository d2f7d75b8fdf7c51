"""Reads what another process has open, in every way that a descriptor allows: ``borrowed_view.py PID``."""

import ctypes
import mmap
import os
import sys
from pathlib import Path

_PIDFD_GETFD = 438  # the same number on every architecture
_LIBC = ctypes.CDLL(None, use_errno=True)


def tried(how: str, read) -> None:
    try:
        print(f"ran: {how}: {bytes(read())!r}", flush=True)
    except (OSError, ValueError) as error:
        print(f"ran: {how}: {error}", flush=True)


def main(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if int(entry.name) < 3:
            continue
        tried("opened again", entry.read_bytes)
        fd = _LIBC.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
        if fd < 0:
            print(f"ran: taken: {os.strerror(ctypes.get_errno())}", flush=True)
            continue
        tried("read", lambda fd=fd: os.read(fd, 4096))
        tried("read at 0", lambda fd=fd: os.pread(fd, 4096, 0))
        tried("the copy opened again", Path(f"/proc/self/fd/{fd}").read_bytes)
        tried("mapped", lambda fd=fd: mmap.mmap(fd, 16, prot=mmap.PROT_READ)[:])


main(int(sys.argv[1]))
