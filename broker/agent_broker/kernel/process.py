"""What the kernel says of a live process by its pidfd, beyond our own records: whether it lives, and as whom.

Evidence names the user at exec, and a process can change its user without one.
"""

import errno
import fcntl
import select
import struct
from pathlib import Path

from agent_broker.ids import Pid, Uid

_PIDFD_GET_INFO = 0xC040FF0B  # linux/pidfd.h, Linux 6.13: _IOWR(0xFF, 11, struct pidfd_info), 64 bytes
_INFO = struct.Struct("=QQIIIIIIIIIIIi")  # mask, cgroupid, pid, tgid, ppid, then real, effective, saved, fs: uid, gid
_TGID, _REAL_UID = 3, 5
_CREDENTIALS = 1 << 1  # PIDFD_INFO_CREDS


def real_uid(pidfd: int) -> Uid | None:
    """Return the real user id of a process now, in the initial user namespace; None: it has ended. About 2 us."""
    if _has_ended(pidfd):
        return None
    try:
        return Uid(_info(pidfd)[_REAL_UID])
    except OSError as error:
        return None if error.errno == errno.ESRCH else _real_uid_by_proc(pidfd)


def pid_of(pidfd: int) -> Pid | None:
    """Return the number of a process in our pid namespace; None: it was reaped. About 2 us (100 before Linux 6.13).

    As long as this says a number, no other process has it.
    """
    try:
        return Pid(_info(pidfd)[_TGID])
    except OSError as error:
        return None if error.errno == errno.ESRCH else _pid_by_proc(pidfd)


def _info(pidfd: int) -> tuple[int, ...]:
    info = bytearray(_INFO.size)
    _INFO.pack_into(info, 0, _CREDENTIALS, *(0,) * 13)
    fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    return _INFO.unpack(info)


def _pid_by_proc(pidfd: int) -> Pid | None:
    number = _field(Path(f"/proc/self/fdinfo/{pidfd}"), "Pid:")
    return Pid(number) if number > 0 else None


def _real_uid_by_proc(pidfd: int) -> Uid | None:
    """Before Linux 6.13: by number; the process lives after the look, so the number was its own all the while."""
    try:
        pid = _field(Path(f"/proc/self/fdinfo/{pidfd}"), "Pid:")
        uid = _field(Path(f"/proc/{pid}/status"), "Uid:")
    except (OSError, StopIteration):
        return None
    return None if _has_ended(pidfd) else Uid(uid)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()  # select() takes no number above 1023
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _field(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))
