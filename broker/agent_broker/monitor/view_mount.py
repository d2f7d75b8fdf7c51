"""Root's part of a file view: the mount, made with a descriptor of the broker's, and taken away after it.

The law of this module:
1. One place, which root chose, in a folder that only root can write; what is mounted there and is not ours stays.
2. What the broker gives is checked to be ``/dev/fuse``: it can't have anything else mounted.
3. No program runs from it, set-uid or not, and no device; no access to it goes past modes (default_permissions).
4. A mount whose broker is gone answers ENOTCONN to everybody. It is taken away when its broker ends, and before the
   next is made; lazily, so that nobody who stands in it can hold that up. Nothing here ever looks into the mount.
"""

import asyncio
import ctypes
import logging
import os
import select
import stat
from pathlib import Path
from typing import Final

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 2, 4, 8, 1024  # linux/mount.h
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # linux/fs.h
_FUSE_DEVICE: Final = os.makedev(10, 229)  # linux/miscdevice.h
FILE_SYSTEM: Final = "fuse.agent-broker"
_MOST_STALE: Final = 16

_LOG = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)


class ViewMount:
    """See the module. Belongs to the monitor's event loop."""

    def __init__(self, place: Path) -> None:
        """``place`` is mounted on; nothing is done yet."""
        self._place = place
        self._server: int | None = None
        """Pidfd of the process whose end takes the mount away."""

    def mount(self, fd: int, server_pid: int) -> str:
        """Mount; return why it can't be, or nothing.

        Args:
            fd: of ``/dev/fuse``, just opened by who will serve it; stays the caller's.
            server_pid: of the broker, which asks now; its end takes the mount away.
        """
        self._forget()
        try:
            self._server = server = os.pidfd_open(server_pid)
        except OSError as error:
            return f"the broker is gone: {error.strerror}"
        asyncio.get_running_loop().add_reader(server, self._ended)
        facts = os.fstat(fd)
        if not stat.S_ISCHR(facts.st_mode) or facts.st_rdev != _FUSE_DEVICE:
            return "what is to be mounted is not /dev/fuse"
        try:
            take_away(self._place)
            self._place.mkdir(mode=0o755, exist_ok=True)
            _mount(self._place, fd)
        except OSError as error:
            return f"{self._place} can't be mounted: {error.strerror}"
        return ""

    def close(self) -> None:
        """Take the mount of a broker away that is gone; that of one that lives stays, and is served on."""
        if self._server is not None and _is_over(self._server):
            self._ended()
        self._forget()

    def _ended(self) -> None:
        self._forget()
        try:
            take_away(self._place)
        except OSError as error:
            _LOG.warning("%s can't be taken away: %s", self._place, error.strerror)

    def _forget(self) -> None:
        if self._server is not None:
            asyncio.get_running_loop().remove_reader(self._server)
            os.close(self._server)
            self._server = None


def take_away(place: Path) -> None:
    """Unmount what is ours at a place, and nothing else.

    Raises:
        OSError: as umount2(2).
    """
    for _ in range(_MOST_STALE):
        if _mounted_at(place) != FILE_SYSTEM:
            return
        if _libc.umount2(os.fsencode(place), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
            raise _error()


def is_mounted(place: Path) -> bool:
    """Whether the view is mounted on a place; does not look into it."""
    return _mounted_at(place) == FILE_SYSTEM


def _mounted_at(place: Path) -> str:
    """Return the type of the file system that is mounted on a place last; empty: none is (proc(5), mountinfo)."""
    wanted = os.fsencode(place)
    found = b""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        if _plain(fields.split()[4]) == wanted:
            found = rest.split()[0]
    return found.decode("ascii", "replace")


def _plain(path: bytes) -> bytes:
    for escaped, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        path = path.replace(escaped, char)
    return path


def _mount(place: Path, fd: int) -> None:
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME
    if _libc.mount(b"agent-broker", os.fsencode(place), FILE_SYSTEM.encode(), ctypes.c_ulong(flags), options) != 0:
        raise _error()


def _is_over(pidfd: int) -> bool:
    ready = select.poll()
    ready.register(pidfd, select.POLLIN)
    return bool(ready.poll(0))


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
