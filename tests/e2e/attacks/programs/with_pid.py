"""Starts a program as a user with a pid of one's choice, which only root can: ``with_pid.py PID UID GID PROGRAM ...``.

So a pid that was the agent's a moment ago is used again, without counting through all the others first.
"""

import ctypes
import os
import signal
import sys

CLONE3 = 435  # the same number on every architecture


class CloneArgs(ctypes.Structure):
    """struct clone_args, include/uapi/linux/sched.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack"),
            *("stack_size", "tls", "set_tid", "set_tid_size", "cgroup"),
        )
    ]


def main(pid: int, uid: int, gid: int, command: list[str]) -> int:
    wanted = (ctypes.c_int32 * 1)(pid)
    settings = CloneArgs(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(wanted), set_tid_size=1)
    libc = ctypes.CDLL(None, use_errno=True)
    child = libc.syscall(CLONE3, ctypes.byref(settings), ctypes.sizeof(settings))
    if child < 0:
        sys.exit(f"pid {pid}: {os.strerror(ctypes.get_errno())}")
    if child == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        os.execv(command[0], command)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


sys.exit(main(*map(int, sys.argv[1:4]), sys.argv[4:]))
