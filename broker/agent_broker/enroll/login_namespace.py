"""The kernel's part of a private room: namespaces, mounts, and the user that nobody else is. Root only."""

import contextlib
import ctypes
import errno
import grp
import os
import pwd
import resource
import secrets
import signal
from pathlib import Path

from agent_broker.enroll.login_protocol import Room
from agent_broker.errors import UnavailableError

FIRST_UID, LAST_UID = 61184, 65519
"""Of users that exist for the life of a process: systemd's DynamicUser takes from the same range (systemd.exec(5))."""

_CLONE_NEWNS = 0x00020000  # linux/sched.h, these three
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8  # linux/mount.h, these two lines
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18
_PR_SET_PDEATHSIG = 1  # linux/prctl.h, these three
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_SMALL_BYTES = 64 << 20  # of each temporary folder
_SPARE_BYTES = 256 << 20  # of the room, beside what is copied into it
_COVERED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - places that others can write to, hidden in the room

_libc = ctypes.CDLL(None, use_errno=True)


def free_uid() -> int:
    """Return the number of a user and a group that nobody has, and no process runs as.

    Raises:
        UnavailableError: chance found none.
    """
    used = _running_uids()
    for _ in range(100):
        uid = FIRST_UID + secrets.randbelow(LAST_UID - FIRST_UID + 1)
        if uid not in used and not _is_known(uid) and not os.path.lexists(f"/run/systemd/dynamic-uid/{uid}"):
            return uid
    raise UnavailableError("no user number is free for the login", next_step="try again")


def die_with_parent() -> None:
    """Be killed when the parent ends, whatever ends it.

    Raises:
        OSError: the kernel refused, or the parent has ended already.
    """
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the parent has ended")


def new_namespaces() -> None:
    """Give this process its own mounts and message queues, and its next child a process namespace.

    Raises:
        OSError: the kernel refused.
    """
    _prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWIPC) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")


def mount_room(room: Room) -> None:
    """Mount the room, empty but for its folders, and hide what processes outside could reach it by.

    Raises:
        OSError: the kernel refused.
    """
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")
    size = os.fstat(room.program_fd).st_size + room.package_bytes + _SPARE_BYTES
    for place in _COVERED:
        if Path(place).is_dir():
            _mount_memory(place, f"mode=1777,size={_SMALL_BYTES}")
    Path(room.folder).mkdir(mode=0o755, parents=True, exist_ok=True)  # it may have been below one of them
    _mount_memory(room.folder, f"mode=0711,size={size}")
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "")
    Path(room.folder, "bin").mkdir(mode=0o755)
    for name in ("home", "tmp"):
        made = Path(room.folder, name)
        made.mkdir(mode=0o700)
        os.chown(made, room.uid, room.uid)
    for path, text in room.files.items():
        _write_for(room, Path(path), text)


def lose_privileges(uid: int) -> None:
    """Become this user, with its own group and no other, for good.

    Raises:
        OSError: the kernel refused.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (uid,) * 3:
        raise PermissionError("the rights of root could not be given up")


def _write_for(room: Room, path: Path, text: str) -> None:
    place = Path(room.folder, "home")
    for name in path.parent.parts:
        place /= name
        place.mkdir(mode=0o700, exist_ok=True)
        os.chown(place, room.uid, room.uid)
    (place / path.name).write_text(text)
    os.chown(place / path.name, room.uid, room.uid)


def _mount_memory(place: str, options: str) -> None:
    """A tmpfs that is never swapped (Linux 6.4), or a plain one."""
    flags = _MS_NOSUID | _MS_NODEV
    with contextlib.suppress(OSError):
        _mount("tmpfs", place, "tmpfs", flags, f"{options},noswap")
        return
    _mount("tmpfs", place, "tmpfs", flags, options)


def _mount(source: str, place: str, kind: str, flags: int, options: str) -> None:
    if _libc.mount(source.encode(), os.fsencode(place), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"prctl {option}")


def _running_uids() -> set[int]:
    uids = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                uids.add(entry.stat().st_uid)
    return uids


def _is_known(uid: int) -> bool:
    for look_up in (pwd.getpwuid, grp.getgrgid):
        with contextlib.suppress(KeyError):
            look_up(uid)
            return True
    return False
