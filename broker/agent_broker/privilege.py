"""What a daemon gives up, and how it hides its memory. Everything here is one way.

The law: the broker starts as root only to read its root key and to bind sockets where only root can; then it becomes
its own user, for good: no capability is left, in no set, and no file that it executes can bring one back.
"""

import contextlib
import ctypes
import os
import resource
from pathlib import Path

from agent_broker.errors import UnavailableError
from agent_broker.ids import Uid

_PR_SET_DUMPABLE = 4  # linux/prctl.h, these four
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h, as these
CAP_DAC_READ_SEARCH = 1 << 2
CAP_KILL = 1 << 5
CAP_SYS_PTRACE = 1 << 19
CAP_SYS_ADMIN = 1 << 21
CAP_SYS_NICE = 1 << 23
CAP_LEASE = 1 << 28
CAP_PERFMON = 1 << 38
CAP_BPF = 1 << 39
_NICENESS = -10  # half way to the highest precedence
_MAX_CAPABILITY = 63  # the sets have 64 bits; PR_CAPBSET_READ fails past the kernel's last


def hide_memory() -> None:
    """No core dumps; no process of any user but root can attach to or read this one.

    Call again after the user was changed: the kernel resets the flag then.

    Raises:
        UnavailableError: the kernel refused.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def allow_descriptors() -> None:
    """Raise the limit of open descriptors to what this process may have: every connection needs some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def take_precedence() -> None:
    """Let this process run before ordinary ones: users' busy processes shall not keep an agent's answer waiting.

    As far as the kernel lets it, by its niceness and that of its session (sched(7), "The autogroup feature"); where
    control groups share the processor out, they decide.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS), encoding="ascii")


def become(uid: Uid, gid: int) -> None:
    """Become an ordinary user with no other group, no capability and no way back.

    Raises:
        UnavailableError: the kernel refused, or something was left.
    """
    for capability in range(_MAX_CAPABILITY + 1):
        if _libc().prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            break
        _prctl(_PR_CAPBSET_DROP, capability)
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise UnavailableError(f"the user can't be changed: {error.strerror}", next_step="start it as root") from error
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    hide_memory()
    if os.getresuid() != (uid, uid, uid) or effective_capabilities() != 0:
        raise UnavailableError("privileges were left after they were given up")


def keep_capabilities(kept: int) -> None:
    """Give up every capability that is not in the mask ``kept``, for this process and all it may execute.

    Raises:
        UnavailableError: the kernel refused.
    """
    for capability in range(_MAX_CAPABILITY + 1):
        if _libc().prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            break
        if not kept >> capability & 1:
            _prctl(_PR_CAPBSET_DROP, capability)
    kept &= effective_capabilities()
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if _libc().capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)) != 0:
        raise UnavailableError(f"capabilities can't be given up: {os.strerror(ctypes.get_errno())}")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def leave_network() -> None:
    """Move this process to a network namespace with no interface: it can open no connection, whatever runs in it.

    Sockets with a path in the file system still reach everybody.

    Raises:
        UnavailableError: the kernel refused.
    """
    if _libc().unshare(_CLONE_NEWNET) != 0:
        raise UnavailableError(f"the network can't be left: {os.strerror(ctypes.get_errno())}")


def effective_capabilities() -> int:
    """Return this process's effective and permitted capabilities, as one bit mask (capget(2), version 3)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if _libc().capget(header, data) != 0:
        raise UnavailableError("the kernel does not tell this process's capabilities")
    effective_low, permitted_low, _, effective_high, permitted_high, _ = data
    return int(effective_low | permitted_low | (effective_high | permitted_high) << 32)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        raise UnavailableError(f"prctl({option}) failed: {os.strerror(ctypes.get_errno())}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
