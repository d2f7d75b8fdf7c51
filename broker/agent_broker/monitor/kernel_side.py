"""The monitor's dealings with its kernel side: load it, drain it, tell it whom to watch."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from agent_broker.errors import UnavailableError
from agent_broker.ids import Pid
from agent_broker.kernel.bcc.sensor import BccSensor, Offsets
from agent_broker.kernel.events import Event, FileFacts
from agent_broker.kernel.pins import is_denying
from agent_broker.kernel.sensor import CoreSensor, KernelSensor
from agent_broker.lineage.store import Store
from agent_broker.lineage.text import plain

_POLL_S = 0.02
"""How long an event may wait in the ring when few come (bpf/maps.h, WAKE_AT_BYTES); attesting drains it at once."""


class Backend(NamedTuple):
    """Who makes the kernel side's programs."""

    name: str
    """``core`` or ``bcc``."""
    offsets: Offsets = "auto"
    """Where bcc learns the fields of kernel structures."""


CORE: Final = Backend("core")


def load_sensor(
    store: Store,
    sink: Callable[[Event], None],
    ring_bytes: int,
    pins: Path,
    *,
    backend: Backend = CORE,
) -> tuple[KernelSensor | None, str]:
    """Return the sensor, or why there is none.

    Args:
        store: is told when every older process has its numbers.
        sink: takes the events.
        ring_bytes: size of the event ring.
        pins: where programs that outlive this process are pinned.
        backend: who makes the kernel side's programs.
    """
    sensor: KernelSensor
    try:
        if backend.name == "bcc":
            sensor = _load_bcc(sink, ring_bytes, pins, backend.offsets)
        else:
            sensor = CoreSensor(sink, ring_bytes=ring_bytes, pins=pins)
    except UnavailableError as error:
        return None, error.explain()
    store.link_seeded()
    return sensor, ""


def _load_bcc(sink: Callable[[Event], None], ring_bytes: int, pins: Path, offsets: Offsets) -> KernelSensor:
    if is_denying(pins):
        raise UnavailableError(
            "programs of the backend core still deny in the kernel, and the backend bcc can't take them over",
            next_step="agent-broker monitor --release-pins, then start the monitor again",
        )
    return BccSensor(sink, ring_bytes=ring_bytes, offsets=offsets)


async def drain(sensor: KernelSensor | None, also: Callable[[], None]) -> None:
    """Take kernel events before the ring fills, until cancelled; attesting does so too.

    Args:
        sensor: None: the monitor is blind, there is nothing to take, and nothing that could end this.
        also: called each time.
    """
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    if sensor is None:
        await failed
        return
    turn = _Turn(loop, sensor, also, failed)
    loop.add_reader(sensor.epoll_fd, sensor.consume)
    try:
        turn.take()
        await failed
    finally:
        turn.stop()
        loop.remove_reader(sensor.epoll_fd)


class _Turn:
    """Comes every _POLL_S by itself, within one pass of the loop: a task that sleeps costs two."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sensor: KernelSensor,
        also: Callable[[], None],
        failed: "asyncio.Future[None]",
    ) -> None:
        self._loop = loop
        self._consume = sensor.consume
        self._also = also
        self._failed = failed
        self._next: asyncio.TimerHandle | None = None

    def take(self) -> None:
        try:
            self._consume()
            self._also()
        except Exception as error:  # noqa: BLE001 - whoever waits for this gets it, whatever it is, and ends
            self._failed.set_exception(error)
            return
        self._next = self._loop.call_later(_POLL_S, self.take)

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()


def watch_endpoints(sensor: KernelSensor, port: int, socket: Path, sign_socket: Path) -> bool:
    """Have the kernel note who writes on the broker's connections; say whether it can.

    The sockets' names are made anew by each broker that starts: to be called at each reload and each subscription.
    """
    return sensor.watch_endpoints(port, _numbers_of(sensor, socket), _numbers_of(sensor, sign_socket))


def _numbers_of(sensor: KernelSensor, name: Path) -> FileFacts | None:
    try:
        fd = os.open(name, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # the broker was not started yet
        return None
    try:
        return sensor.own_file(fd).file
    finally:
        os.close(fd)


def protect(sensor: KernelSensor, pid: int) -> None:
    """Count a process among our daemons: who signals it, or takes hold of it, is told or denied."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    sensor.protect(pidfd)
    os.close(pidfd)


def name_of_pid(pid: Pid) -> str:
    """Return what /proc calls a process that is older than the monitor; for display only."""
    try:
        return plain(Path(f"/proc/{pid}/comm").read_bytes().strip())
    except OSError:
        return f"pid {pid}"
