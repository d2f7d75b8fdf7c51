"""The process that takes the inventory of a home: it gives up every right that the user does not have, then looks.

As user_process it is not dumpable when root starts it, since it is told then where decoys are that the user must not
learn of. One order, and it ends; root's side kills it when it is silent for too long.
"""

import os
import socket
import sys
from collections.abc import Callable

import msgspec

from agent_broker.enroll.beneath import open_without_links
from agent_broker.enroll.file_protocol import Start
from agent_broker.enroll.framing import receive, send
from agent_broker.enroll.inventory_agents import programs
from agent_broker.enroll.inventory_machine import machine_wide
from agent_broker.enroll.inventory_places import everything, session
from agent_broker.enroll.inventory_protocol import Answer, Busy, Finished, Found, NotStarted, Order, Sighting
from agent_broker.enroll.inventory_walk import TOO_LATE, OutOfTimeError, Walk
from agent_broker.enroll.user_process import become

_BATCH = 100


def main() -> int:
    """Serve the socket whose descriptor is the only argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    frame = receive(channel)
    if frame is None:
        return 0
    order = msgspec.msgpack.decode(frame, type=Order)
    try:
        if order.become:
            become(Start(order.uid, order.gid, order.groups, order.home))
        home_fd = open_without_links(order.home, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        send(channel, NotStarted(os.strerror(error.errno or 0)))
        return 0
    if os.fstat(home_fd).st_uid != order.uid:
        send(channel, NotStarted("it does not belong to the user"))
        return 0
    send(channel, _take(order, home_fd, channel))
    return 0


def _take(order: Order, home_fd: int, channel: socket.socket) -> Answer:
    batch: list[Sighting] = []

    def flush() -> None:
        if batch:
            send(channel, Found(credentials=tuple(batch)))
            batch.clear()

    def emit(sighting: Sighting) -> None:
        batch.append(sighting)
        if len(batch) >= _BATCH:
            flush()

    def beat(entries: int) -> None:
        flush()
        send(channel, Busy(entries))

    walk = Walk(order, home_fd, emit, beat)
    try:
        if order.machine:
            machine_wide(walk)
        else:
            _look_at_home(walk, channel, flush)
    except OutOfTimeError:
        walk.missed[TOO_LATE] += 1
    flush()
    return Finished(walk.entries, {why: count for why, count in walk.missed.items() if count})


def _look_at_home(walk: Walk, channel: socket.socket, flush: Callable[[], None]) -> None:
    for program in programs(walk) if walk.order.programs else ():
        send(channel, Found(agents=(program,)))
    everything(walk)
    flush()  # the bus is the user's, who need not let it answer
    session(walk)


if __name__ == "__main__":
    sys.exit(main())
