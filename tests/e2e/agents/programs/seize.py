"""A debugger of the user's: ``seize.py PID`` attaches to a process, and leaves it."""

import ctypes
import os
import sys

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17  # sys/ptrace.h
_WAIT_ALL = 0x40000000  # __WALL
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
for request in (_SEIZE, _INTERRUPT, _DETACH):
    if libc.ptrace(request, pid, None, None):
        sys.exit(f"ptrace {request:#x}: {os.strerror(ctypes.get_errno())}")
    if request == _INTERRUPT:
        os.waitpid(pid, _WAIT_ALL)
