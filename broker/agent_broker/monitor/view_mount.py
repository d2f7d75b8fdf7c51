"""Root's part of a file view: the mount, made with a descriptor of the broker's, and taken away after it.

The law of this module:
1. One place, which root chose, in a folder that only root can write; what is mounted there and is not ours stays.
2. What the broker gives is checked to be ``/dev/fuse``: it can't have anything else mounted.
3. No program runs from it, set-uid or not, and no device; no access to it goes past modes (default_permissions).
4. A mount whose broker is gone answers ENOTCONN to everybody. It is taken away when its broker ends, when the monitor
   stops or finds it at its start, and before the next is made. A mount says itself which process serves it: so a
   monitor that didn't make it, since the one that did was killed, knows whose end to wait for.
5. What is taken away is aborted first, then detached: who waits in it gets an error at once, a broker that lives learns
   that it has to ask anew, and nobody who stands in it can hold that up. Nothing here ever looks into the mount.
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
_MNT_FORCE, _MNT_DETACH, _UMOUNT_NOFOLLOW = 1, 2, 8  # linux/fs.h
_FUSE_DEVICE: Final = os.makedev(10, 229)  # linux/miscdevice.h
FILE_SYSTEM: Final = "fuse.agent-broker"
_MOST_STALE: Final = 16
_STARTED: Final = 19  # of proc(5), stat, after the name: field 22, starttime
_COLONS: Final = 2  # of a source

_LOG = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)


class ViewMount:
    """See the module. Belongs to the monitor's event loop."""

    def __init__(self, place: Path) -> None:
        """``place`` is mounted on; nothing is done yet."""
        self._place = place
        self._server: int | None = None
        """Pidfd of the process whose end takes the mount away."""

    def begin(self) -> None:
        """Look after a mount that another monitor made: until its broker ends, and if it has, take it away."""
        server = _server_of(_last_mounted(self._place))
        if server is None:
            self._ended()
        else:
            self._wait_for(server)

    def mount(self, fd: int, server_pid: int) -> str:
        """Mount; return why it can't be, or nothing.

        Args:
            fd: of ``/dev/fuse``, just opened by who will serve it; stays the caller's.
            server_pid: of the broker, which asks now; its end takes the mount away.
        """
        self._forget()
        try:
            self._wait_for(os.pidfd_open(server_pid))
            source = _source_of(server_pid)
        except OSError as error:
            return f"the broker is gone: {error.strerror}"
        facts = os.fstat(fd)
        if not stat.S_ISCHR(facts.st_mode) or facts.st_rdev != _FUSE_DEVICE:
            return "what is to be mounted is not /dev/fuse"
        try:
            take_away(self._place)
            self._place.mkdir(mode=0o755, exist_ok=True)
            _mount(self._place, fd, source)
        except OSError as error:
            return f"{self._place} can't be mounted: {error.strerror}"
        return ""

    def close(self) -> None:
        """Take the mount away, also of a broker that lives: it may end while there is no monitor, and asks anew."""
        self._ended()

    def _wait_for(self, server: int) -> None:
        self._server = server
        asyncio.get_running_loop().add_reader(server, self._ended)

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
    """Abort and unmount what is ours at a place, and nothing else.

    Raises:
        OSError: as umount2(2).
    """
    for _ in range(_MOST_STALE):
        if not is_mounted(place):
            return
        if _libc.umount2(os.fsencode(place), _MNT_FORCE | _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
            raise _error()


def is_mounted(place: Path) -> bool:
    """Whether the view is mounted on a place; does not look into it."""
    return _last_mounted(place)[0] == FILE_SYSTEM.encode()


def _last_mounted(place: Path) -> tuple[bytes, bytes]:
    """Return type and source of what is mounted on a place last; empty: nothing is (proc(5), mountinfo)."""
    wanted = os.fsencode(place)
    found = b"", b""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        if _plain(fields.split()[4]) == wanted:
            kind, source = rest.split()[:2]
            found = kind, source
    return found


def _source_of(pid: int) -> bytes:
    """Return what a mount is called that this process serves: by number and start, which no other process has."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return b"agent-broker:%d:%s" % (pid, fields[_STARTED])


def _server_of(mounted: tuple[bytes, bytes]) -> int | None:
    """Return a pidfd of the process that serves a mount; None: it is not ours, or that process is gone."""
    kind, source = mounted
    number = source.split(b":")[1] if source.count(b":") == _COLONS else b""
    if kind != FILE_SYSTEM.encode() or not number.isdigit():
        return None
    try:
        server = os.pidfd_open(int(number))
    except OSError:
        return None
    try:
        is_it = _source_of(int(number)) == source and not _is_over(server)
    except OSError:
        is_it = False
    if is_it:
        return server
    os.close(server)
    return None


def _plain(path: bytes) -> bytes:
    for escaped, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        path = path.replace(escaped, char)
    return path


def _mount(place: Path, fd: int, source: bytes) -> None:
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME
    if _libc.mount(source, os.fsencode(place), FILE_SYSTEM.encode(), ctypes.c_ulong(flags), options) != 0:
        raise _error()


def _is_over(pidfd: int) -> bool:
    ready = select.poll()
    ready.register(pidfd, select.POLLIN)
    return bool(ready.poll(0))


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
