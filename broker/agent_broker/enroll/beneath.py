"""Open and rename below a folder without ever following what its owner put there.

``openat2`` (Linux 5.6) resolves a whole path in the kernel and refuses symbolic links, ``..`` out of the folder and
magic links; no check of ours could be raced. ``renameat2`` exchanges two names in one step, so that what was there
is still there to be looked at. Python wraps neither.
"""

import ctypes
import errno
import os
import stat

_OPENAT2 = 437  # the same number on every architecture, asm-generic/unistd.h
_RESOLVE_NO_MAGICLINKS = 0x02  # linux/openat2.h
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RENAME_NOREPLACE = 1  # linux/fs.h
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS)


class _OpenHow(ctypes.Structure):
    """``struct open_how`` of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(folder_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a relative path below a folder; the descriptor is close-on-exec.

    Raises:
        OSError: as open(2); ELOOP: a symbolic link on the way; EXDEV: the path leads out of the folder.
    """
    resolve = _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_BENEATH
    return _openat2(folder_fd, path, flags, mode, resolve)


def open_without_links(path: str, flags: int) -> int:
    """Open an absolute path none of whose components is a symbolic link.

    Raises:
        OSError: see open_beneath.
    """
    return _openat2(-100, path, flags, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)  # -100: AT_FDCWD


def open_regular(path: str) -> int:
    """Open a regular file for reading by an absolute path without links; whatever else lies there is not opened.

    Raises:
        OSError: see open_beneath; EINVAL: it is no regular file; EAGAIN: its owner holds a lease on it.
    """
    found = open_without_links(path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(found)


def exchange(folder_fd: int, name: str, other: str) -> bool:
    """Swap two names of a folder in one step; False if this file system can't.

    Raises:
        OSError: as renameat2(2).
    """
    return _renameat2(folder_fd, name, other, _RENAME_EXCHANGE)


def rename_to_new(folder_fd: int, name: str, new: str) -> None:
    """Rename, never onto something that exists.

    Raises:
        FileExistsError: ``new`` exists.
        OSError: as renameat2(2).
    """
    if _renameat2(folder_fd, name, new, _RENAME_NOREPLACE):
        return
    os.link(name, new, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    os.unlink(name, dir_fd=folder_fd)


def _openat2(folder_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    result: int = _libc.syscall(
        ctypes.c_long(_OPENAT2), ctypes.c_long(folder_fd), os.fsencode(path), ctypes.byref(how), size
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def _renameat2(folder_fd: int, name: str, new: str, flags: int) -> bool:
    if _libc.renameat2(folder_fd, os.fsencode(name), folder_fd, os.fsencode(new), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), name)
