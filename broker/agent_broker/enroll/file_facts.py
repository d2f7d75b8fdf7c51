"""What the kernel says of a file, and what may be touched: looked at through descriptors only, never opened for it."""

import ctypes
import errno
import os
import stat

from agent_broker.enroll.beneath import open_beneath
from agent_broker.enroll.file_state import FileState

_AT_EMPTY_PATH = 0x1000  # linux/fcntl.h
_STATX_BASIC_STATS = 0x7FF  # linux/stat.h
_STATX_BYTES = 256
_STATX_ATTRIBUTES = slice(8, 16)  # stx_attributes, after stx_mask and stx_blksize
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20  # STATX_ATTR_*

_libc = ctypes.CDLL(None, use_errno=True)


class FileProblemError(Exception):
    """A request can't be done; nothing was changed by it. Never leaves this process: it becomes ``Failed``."""

    def __init__(self, problem: str, path: str, detail: str = "") -> None:
        super().__init__(problem, path, detail)
        self.problem = problem
        self.path = path
        self.detail = detail


def state_of(fd: int) -> FileState:
    """Return what fstat says."""
    facts = os.fstat(fd)
    return FileState(
        dev=facts.st_dev,
        ino=facts.st_ino,
        mode=facts.st_mode,
        uid=facts.st_uid,
        gid=facts.st_gid,
        nlink=facts.st_nlink,
        size_bytes=facts.st_size,
        atime_ns=facts.st_atime_ns,
        mtime_ns=facts.st_mtime_ns,
        ctime_ns=facts.st_ctime_ns,
    )


def require_plain(state: FileState, path: str) -> None:
    """Refuse whatever is not a regular file of the user's own with one name.

    Raises:
        FileProblemError: which of these it is not.
    """
    if stat.S_ISLNK(state.mode):
        raise FileProblemError("symlink", path)
    if not stat.S_ISREG(state.mode):
        raise FileProblemError("not-regular", path)
    if state.uid != os.geteuid():
        raise FileProblemError("foreign", path)
    if state.gid not in (os.getegid(), *os.getgroups()):  # the user could not give a new file this group
        raise FileProblemError("foreign-group", path)
    if state.nlink != 1:
        raise FileProblemError("hard-linked", path)


def require_changeable(fd: int, path: str) -> None:
    """Refuse a file or folder that chattr(1) has made immutable or append-only. ``fd`` may be an O_PATH one.

    Raises:
        FileProblemError: it is; OSError: as statx(2).
    """
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if _libc.statx(fd, b"", _AT_EMPTY_PATH, _STATX_BASIC_STATS, answer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    if int.from_bytes(answer.raw[_STATX_ATTRIBUTES], "little") & (_IMMUTABLE | _APPEND_ONLY):
        raise FileProblemError("immutable", path)


def look_at(folder: int, path: str) -> FileState:
    """Return what is at a path below a folder, of whatever type.

    Raises:
        OSError: see open_beneath.
    """
    fd = open_beneath(folder, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return state_of(fd)
    finally:
        os.close(fd)


def problem_of(error: OSError, path: str) -> FileProblemError:
    """Say in our words what the kernel refused."""
    problems = {errno.ELOOP: "linked-folder", errno.EXDEV: "linked-folder", errno.ENOTDIR: "not-a-folder"}
    if error.errno in (errno.EACCES, errno.EPERM):
        return FileProblemError("unreadable", path)
    if error.errno == errno.EROFS:
        return FileProblemError("read-only", path)
    return FileProblemError(problems.get(error.errno or 0, "os"), path, os.strerror(error.errno or 0))
