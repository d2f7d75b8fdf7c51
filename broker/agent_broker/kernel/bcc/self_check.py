"""Does what was compiled read the right fields? Asked of the kernel's own doing, before anything relies on it.

A process of ours is started and held. Its fork and its exec must have come, with its number, ours, its start time,
and of its file what stat says. The connection that we hold it by must have its two ends where they are, with as many
references as it has, and whoever waits at it. Wrong offsets give other numbers, and then the backend is refused.
"""

import os
import select
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

from agent_broker.errors import UnavailableError
from agent_broker.ids import Pid
from agent_broker.kernel.events import Event, Exec, FileFacts, Fork
from agent_broker.kernel.maps import KernelMaps, TaskRecord
from agent_broker.kernel.wire import decode_exec_detail

_PROGRAM: Final = "/bin/cat"  # waits for its input
_WORD: Final = b"x"
_USER, _GROUP = 65534, 65533  # not root's, and not the same: a field beside the right one holds another number
_MOST_S: Final = 5.0
"""How long a thread of ours may take to wait for something; it takes a millisecond, on a busy machine more."""
_PAUSE_S: Final = 0.001
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_START_TIME: Final = 19  # field 22 of /proc/PID/stat, counted behind the name: proc(5)
_INITIAL: Final = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_PROC_NS: Final = Path("/proc/self/ns/pid")


class Probe:
    """A process that was started and is held."""

    def __init__(self) -> None:
        self.end, theirs = socket.socketpair()
        with theirs:
            self.its_inode = os.fstat(theirs.fileno()).st_ino
            self._process = subprocess.Popen(
                [_PROGRAM],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                user=_USER,
                group=_GROUP,
                extra_groups=(),
            )
        self.pid = Pid(self._process.pid)
        self.pidfd = os.pidfd_open(self.pid)

    def has_answered(self) -> bool:
        """Wait until it says what it was told: then its exec is over."""
        self.end.sendall(_WORD)
        return self.end.recv(len(_WORD)) == _WORD

    def close(self) -> None:
        """Let it end."""
        self.end.close()
        self._process.wait()
        os.close(self.pidfd)


class Seen(NamedTuple):
    """What the sensor saw of the probe."""

    events: list[Event]
    """What came since before it was started."""
    record: TaskRecord | None
    start_ns: int | None
    """CLOCK_BOOTTIME."""


def require_right(probe: Probe, seen: Seen, maps: KernelMaps) -> None:
    """Compare what the sensor saw of the probe with what is so.

    Args:
        probe: held.
        seen: of it.
        maps: look-ups.

    Raises:
        UnavailableError: the sensor saw something else, or we are not in the machine's own pid namespace.
    """
    wrong = (*_differences(probe, *seen), *_of_sockets(probe, maps))
    if wrong:
        raise UnavailableError(
            f"the backend bcc reads wrong fields on this kernel: {'; '.join(wrong)}",
            next_step='sensor.backend = "core"',
        )


def _differences(probe: Probe, events: list[Event], record: TaskRecord | None, start_ns: int | None) -> tuple[str, ...]:
    wrong = []
    if str(_PROC_NS.readlink()) != _INITIAL:
        wrong.append("the monitor runs in a pid namespace of its own")
    forks = [each for each in events if isinstance(each, Fork) and each.child_pid == probe.pid]
    execs = [each for each in events if isinstance(each, Exec) and each.pid == probe.pid]
    if not forks or forks[-1].parent_pid != os.getpid():
        wrong.append("its own fork was not seen")
    if start_ns is None or start_ns // _TICK_NS != _start_ticks(probe.pid):
        wrong.append("the start time is another one")
    if not execs:
        return (*wrong, "its own exec was not seen")
    if record is None or record.exec_id != execs[-1].exec_id:
        wrong.append("the record is of another image")
    facts, detail = decode_exec_detail(execs[-1].raw)
    if not _is_file(facts, Path(f"/proc/{probe.pid}/exe")):
        wrong.append("the executable file is another one")
    name = _PROGRAM.encode()
    if (detail.uid, detail.filename, detail.args_head) != (_USER, name, name + b"\0"):
        wrong.append("the user, the name or the arguments are other ones")
    if detail.mount_ns != Path(f"/proc/{probe.pid}/ns/mnt").stat().st_ino:
        wrong.append("the mount namespace is another one")
    return tuple(wrong)


def _of_sockets(probe: Probe, maps: KernelMaps) -> tuple[str, ...]:
    inode = os.fstat(probe.end.fileno()).st_ino
    held = [(each.pid, each.fd, each.references, each.sharers) for each in maps.socket_holders(probe.its_inode)]
    wrong = []
    if held != [(probe.pid, 0, 2, 0), (probe.pid, 1, 2, 0)]:
        wrong.append("its connection is held otherwise")
    if (maps.other_end_of(probe.its_inode), maps.other_end_of(inode)) != (inode, probe.its_inode):
        wrong.append("its connection leads elsewhere")
    if not _waiting_is_told(probe.end, maps):
        wrong.append("who waits at our end is not told")
    return tuple(wrong)


def _waiting_is_told(end: socket.socket, maps: KernelMaps) -> bool:
    """Return whether a thread of ours that waits at our end is seen, and was not before; our end hears no more then."""
    inode = os.fstat(end.fileno()).st_ino
    if _readers(maps, inode) != (1, 0):
        return False
    wait = threading.Thread(target=_wait_at, args=(end,), daemon=True)
    wait.start()
    deadline_s = time.monotonic() + _MOST_S
    try:
        while (seen := _readers(maps, inode)) != (2, 1) and time.monotonic() < deadline_s:
            time.sleep(_PAUSE_S)
    finally:
        end.shutdown(socket.SHUT_RD)
        wait.join()
    return seen == (2, 1)


def _wait_at(end: socket.socket) -> None:
    waiting = select.poll()
    waiting.register(end, select.POLLIN)
    waiting.poll()


def _readers(maps: KernelMaps, inode: int) -> tuple[int, int]:
    """Return the references to our end, and how many of them are of calls that wait; none: it was not found once."""
    found = maps.socket_holders(inode, pid=os.getpid())
    return (found[0].references, found[0].readers) if len(found) == 1 else (0, 0)


def _start_ticks(pid: Pid) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[_START_TIME])


def _is_file(facts: FileFacts, path: Path) -> bool:
    status = path.stat()
    return (facts.ino, facts.size_bytes, facts.mode, facts.owner_uid, facts.nlink, facts.mtime_ns, facts.ctime_ns) == (
        status.st_ino, status.st_size, status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns,
        status.st_ctime_ns,
    )  # fmt: skip
