"""Updates that the operator's policy approves unasked: judged from the whole trace of the new file's writers.

A file is approved only if all of this holds:
1. it is where the enrolled program was, or where its launcher leads, and holds other bytes;
2. its creation was seen, no event was lost, and every program that created, wrote, closed or renamed it is
   ``own-updater``: the enrolled agent's own main process, untainted, and never what it started; or
   ``root-package-manager``: a package manager that root runs, or what that started;
3. each of them had executed its program before the file came into being, by the file system's own time of birth, which
   no user can set: a process that writes first and becomes the agent afterwards is not the agent;
4. nobody has the file open for writing, before and after it is hashed, and no event of it came meanwhile;
5. it is not larger than the monitor hashes of anything (MAX_HASHED_BYTES), and no link is on its path.

What an updater downloads it verifies itself, or not: ``own-updater`` trusts the agent's updater as much as the agent.
"""

import ctypes
import logging
import os
import time
from collections.abc import Awaitable, Callable

from agent_broker.errors import AgentBrokerError, MisuseError
from agent_broker.identity.executable import HashCache, hash_at_rest
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.kernel.sensor import Sensor
from agent_broker.monitor.fingerprint import MAX_HASHED_BYTES
from agent_broker.monitor.pathwalk import Walk
from agent_broker.monitor.provenance import Trace, Way, Writer
from agent_broker.monitor.updates import UpdateWatch

OWN_UPDATER: Way = "own-updater"
ROOT_PACKAGE_MANAGER: Way = "root-package-manager"

_MARGIN_NS: dict[Way, int] = {OWN_UPDATER: 1_000_000_000, ROOT_PACKAGE_MANAGER: 50_000_000}
"""The two clocks are compared by their difference now; that root sets the clock back meanwhile is not expected."""
_OF_BYTES = frozenset({"created", "wrote", "closed"})
_AT_FDCWD_EMPTY = 0x1000  # AT_EMPTY_PATH
_STATX_BTIME = 0x800
_STATX_BYTES = 256

_log = logging.getLogger(__name__)

Approve = Callable[[Enrollment, EnrolledBinary, EnrolledBinary, Way], Awaitable[None]]
"""(enrolment, old, new, way): enrolls the new file instead of the old one."""


class PreApproval:
    """Judges what was written, when nothing more is; see the module."""

    def __init__(
        self, watch: UpdateWatch, sensor: Sensor, hashes: HashCache, ways: tuple[Way, ...], approve: Approve
    ) -> None:
        self._watch = watch
        self._sensor = sensor
        self._hashes = hashes
        self._ways = ways
        self._approve = approve

    async def consider(self, enrollments: tuple[Enrollment, ...]) -> None:
        """Approve what the policy lets; whatever can't be looked at is left for a person."""
        for enrollment in enrollments if self._ways else ():
            for binary in enrollment.binaries:
                for place in places_of(binary):
                    try:
                        await self._judge(enrollment, binary, place)
                    except (AgentBrokerError, OSError) as error:
                        _log.info("%s is not approved unasked: %s", place, error)

    async def _judge(self, enrollment: Enrollment, binary: EnrolledBinary, place: str) -> None:
        fd = _open_regular(place)
        try:
            facts = self._sensor.own_file(fd).file
            trace = self._watch.trace_of(fd)
            way = None if trace is None else way_of(trace, enrollment, self._ways, birth_ns(fd))
            if trace is None or way is None:
                return
            if facts.size_bytes > MAX_HASHED_BYTES:
                _log.warning("%s is not approved unasked: it is too large to hash (%d bytes)", place, facts.size_bytes)
                return
            events = trace.events
            sha256 = await hash_at_rest(fd, facts, self._sensor, self._hashes)
            if sha256 == binary.sha256 or self._watch.trace_of(fd) is not trace:
                return
            if trace.events == events and way_of(trace, enrollment, (way,), birth_ns(fd)) == way:
                new = EnrolledBinary(place, sha256, facts.size_bytes, launchers=binary.launchers)
                await self._approve(enrollment, binary, new, way)
        finally:
            os.close(fd)


def way_of(trace: Trace, enrollment: Enrollment, ways: tuple[Way, ...], born_ns: int | None) -> Way | None:
    """Return the way in which a trace is approved; None: a person must be asked.

    Args:
        trace: of the new file.
        enrollment: whose new version it may be.
        ways: what the operator allows.
        born_ns: when the file came into being, CLOCK_REALTIME; None: its file system does not say.
    """
    writers = [seen.writer for seen in trace.seen.values()]
    did = {each for seen in trace.seen.values() for each in seen.did}
    if not trace.born or trace.broken or born_ns is None or not {"created", "wrote", "closed"} <= did:
        return None
    if any(writer.problem for writer in writers):
        return None
    made = [seen.writer for seen in trace.seen.values() if seen.did & _OF_BYTES]
    fits: dict[Way, bool] = {
        OWN_UPDATER: all(_is_own(writer, enrollment) for writer in writers),
        ROOT_PACKAGE_MANAGER: all(writer.package_manager and writer.uid == 0 for writer in writers),
    }
    for way in ways:
        if fits[way] and all(_was_there(writer, born_ns - _MARGIN_NS[way]) for writer in made):
            return way
    return None


def _open_regular(place: str) -> int:
    with Walk(place) as walk:
        if walk.file is None:
            raise MisuseError(walk.problem)
        return os.open(f"/proc/self/fd/{walk.file}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_own(writer: Writer, enrollment: Enrollment) -> bool:
    return writer.is_agent and writer.agent == enrollment.agent and writer.uid == enrollment.owner_uid


def _was_there(writer: Writer, time_ns: int) -> bool:
    offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return writer.exec_ns > 0 and writer.exec_ns + offset_ns < time_ns


def places_of(binary: EnrolledBinary) -> tuple[str, ...]:
    """Return where a new version of a program would be, the launchers' targets first; none for an interpreter."""
    if binary.script is not None:
        return ()
    return tuple(dict.fromkeys(os.path.realpath(place) for place in (*binary.launchers, binary.path)))


_libc = ctypes.CDLL(None, use_errno=True)


def birth_ns(fd: int) -> int | None:
    """Return when a file came into being (statx), CLOCK_REALTIME; None: its file system does not say."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _libc.statx(fd, b"", _AT_FDCWD_EMPTY, _STATX_BTIME, buffer) != 0:
        return None
    mask = int.from_bytes(buffer.raw[0:4], "little")
    if not mask & _STATX_BTIME:
        return None
    # struct statx: stx_btime at 80 (linux/stat.h): s64 seconds, u32 nanoseconds
    seconds = int.from_bytes(buffer.raw[80:88], "little", signed=True)
    return seconds * 1_000_000_000 + int.from_bytes(buffer.raw[88:92], "little")
