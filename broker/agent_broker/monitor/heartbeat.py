"""Is the kernel side still there? A process of our own is started every second, and its events must arrive.

The law:
1. A beat is a real process: it forks, execs and exits, so each of these hooks must say so, with numbers that only the
   kernel side gives, and through the ring. It is judged when the process has ended and the ring is empty: by then all
   of its events were committed, so no clock decides.
2. An event that is missing although none was counted as lost is a kernel side that was taken away, or somebody who
   reads our ring. From then on nothing of this monitor is believed: what happened meanwhile can't be known, so only a
   new monitor, which numbers everything anew, ends it.
3. A beat that could not be made (no process could be started) proves nothing. After FRESH_S without a proof, whoever
   asks waits for a beat, and without one nothing is believed.

What it can't tell: whether the hooks that see attacks on a process (ptrace, memory, signals) work; only that their
links are still there is looked at (``lost_links``).
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol

from agent_broker.clock import Clock
from agent_broker.errors import UnavailableError
from agent_broker.kernel.events import Event, Exec, Exit, Fork, Strings, Taint
from agent_broker.kernel.maps import Losses, TaskRecord
from agent_broker.monitor.incident import Incident, incident_now

BEAT_S = 1.0
FRESH_S = 3.0
"""How old a proof may be for an answer; a beat takes a few milliseconds."""
_PATIENCE_S = 5.0
"""For a process that does nothing; longer, and the machine is too busy for a beat, which is not held against it."""
_DRAIN_TRIES = 200
_DRAIN_PAUSE_S = 0.001
_PROGRAMS = ("/bin/true", "/usr/bin/true", "/proc/self/exe")
_HOOKS = {Fork: "fork", Exec: "exec", Exit: "exit"}

_log = logging.getLogger(__name__)


class Sensor(Protocol):
    """What a beat asks of kernel.sensor.CoreSensor."""

    def consume(self) -> bool:
        """See Sensor there."""
        ...

    def task_record(self, pidfd: int) -> TaskRecord | None:
        """See Sensor there."""
        ...

    def losses(self) -> Losses:
        """See Sensor there."""
        ...

    def lost_links(self) -> tuple[str, ...]:
        """Return the hooks that were attached and are not any more."""
        ...


class Heartbeat:
    """See the module. Lives in the monitor's event loop.

    Attributes:
        blind: why nothing is believed any more; empty: the kernel side reports. Final.
        doubt: why the last beat proved nothing; empty: it did.
        on_blind: called once, with the reason.
        proven_ns: when the last proof was, of the clock's ``boot_ns``; 0: never.
    """

    def __init__(self, clock: Clock) -> None:
        """Nothing is proven yet."""
        self.blind = ""
        self.doubt = ""
        self.proven_ns = 0
        self._clock = clock
        self.on_blind: Callable[[str], None] = _log.error
        self._sensor: Sensor | None = None
        self._child = 0
        """proc_id of the process whose events are waited for."""
        self._seen: set[type[Event]] = set()
        self._newest = 0
        self._beat: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None

    def tap(self, sink: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return the sink to give to the sensor: it notes the events of the beat's process, and hands all on."""

        def take(event: Event) -> None:
            if self._child and not isinstance(event, Strings | Taint) and event.proc_id == self._child:
                self._seen.add(type(event))
            sink(event)

        return take

    def start(self, sensor: Sensor) -> None:
        """Beat from now on, in the running event loop."""
        self._sensor = sensor
        self._beating = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Stop."""
        tasks = [task for task in (self._beating, self._beat) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_fresh(self) -> bool:
        """Whether the kernel side was proven within FRESH_S."""
        return not self.blind and self._clock.boot_ns() - self.proven_ns <= FRESH_S * 1e9 and self.proven_ns > 0

    @property
    def problem(self) -> str:
        """Why the kernel side can't be believed now; empty: it was proven within FRESH_S."""
        if self.is_fresh:
            return ""
        return self.blind or f"the kernel side was not proven to report: {self.doubt or 'no beat was made'}"

    @property
    def age_ns(self) -> int:
        """How long ago the kernel side was proven; below 0: never."""
        return self._clock.boot_ns() - self.proven_ns if self.proven_ns else -1

    async def prove(self) -> str:
        """Return why the kernel side can't be believed; empty: it was proven within FRESH_S, maybe just now."""
        if self.is_fresh:
            return ""
        if not self.blind:
            await asyncio.wait([self._one_beat()], timeout=_PATIENCE_S)
        return self.problem

    async def _go_on(self) -> None:
        while not self.blind:
            await asyncio.wait([self._one_beat()])
            await asyncio.sleep(BEAT_S)

    def _one_beat(self) -> asyncio.Task[None]:
        """Return the beat that is under way, or begin one."""
        if self._beat is None or self._beat.done():
            self._beat = asyncio.get_running_loop().create_task(self._make_beat())
        return self._beat

    async def _make_beat(self) -> None:
        sensor = self._sensor
        if sensor is None or self.blind:
            return
        try:
            problem = await self._try(sensor)
        except (OSError, UnavailableError) as error:
            self.doubt = f"no process could be started and looked at ({error})"
            _log.warning("a beat proved nothing: %s", error)
            return
        finally:
            self._child = 0
        if problem:
            self.blind = f"the kernel side does not report any more: {problem}"
            self.on_blind(self.blind)

    async def _try(self, sensor: Sensor) -> str:
        """Make one beat; return what is missing, or nothing, when ``doubt`` says whether anything was proven.

        Raises:
            OSError: no process can be started.
            UnavailableError: the kernel refuses a look-up.
        """
        lost = sensor.lost_links()
        if lost:
            return f"the hooks {', '.join(lost)} are not attached any more"
        self._seen.clear()
        before = sensor.losses()
        pid = _start()
        try:
            pidfd = os.pidfd_open(pid)
            try:
                problem = self._numbers_problem(sensor.task_record(pidfd))
                ended = await _ended(pidfd)
            finally:
                os.close(pidfd)
        finally:
            _reap(pid)
        drained = await _drain(sensor)
        after = sensor.losses()
        if problem and after.record == before.record:
            return problem
        if problem or not ended or not drained:
            self.doubt = "the machine is too busy"
            return ""
        self.doubt = ""
        return self._judge(before, after)

    def _numbers_problem(self, record: TaskRecord | None) -> str:
        if record is None:
            return "a process that was started got no numbers"
        if record.proc_id <= self._newest:
            return "its numbers do not go on"
        self._newest = record.proc_id
        self._child = record.proc_id
        return ""

    def _judge(self, before: Losses, after: Losses) -> str:
        counted = {Fork: after.fork - before.fork, Exec: after.exec - before.exec, Exit: after.exit - before.exit}
        missing = [hook for kind, hook in _HOOKS.items() if kind not in self._seen and not counted[kind]]
        if missing:
            return f"no event of {', '.join(missing)} came of a process that was started"
        self.proven_ns = self._clock.boot_ns()
        return ""


def decide_blind(reason: str, clock: Clock, tier: str) -> Incident:
    """Return the incident of a kernel side that was taken away."""
    return incident_now(
        clock,
        kind="monitor-tampered",
        severity="critical",
        what=f"{reason}; nothing is released until the monitor was restarted",
        tier=tier,
        action="refused",
        next_step="only root can do this: find out who was root; restart the monitor, then the agents",
    )


def _start() -> int:
    """Start a process that does nothing; nothing of ours can be read by it, and it inherits no descriptor.

    Raises:
        OSError: it can't be started.
    """
    for program in _PROGRAMS:
        try:
            return os.posix_spawn(program, ["true"], {})
        except FileNotFoundError:
            continue
    raise FileNotFoundError(f"none of {', '.join(_PROGRAMS)} can be executed")


def _reap(pid: int) -> None:
    os.kill(pid, 9)  # it has ended, or was stopped by somebody
    os.waitpid(pid, 0)


async def _ended(pidfd: int) -> bool:
    """Wait until a process has ended; False: it took too long."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, _settle, done)
    try:
        await asyncio.wait_for(done, _PATIENCE_S)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def _drain(sensor: Sensor) -> bool:
    for _ in range(_DRAIN_TRIES):
        if sensor.consume():
            return True
        await asyncio.sleep(_DRAIN_PAUSE_S)
    return False
