"""A connection as the kernel's tables show it: held by one process alone, and written on by nobody else.

What is looked at, for each request anew:
1. Every descriptor of the machine that is the client's socket: all of one process.
2. The references to the open file: no more than its descriptors and its own waiting calls. A descriptor on its way in
   a message, or one that an io_uring keeps, is in no table and is a reference all the same.
3. Who wrote on it since it was made (bpf/send.bpf.c, where the kernel has it): the holder's own program, and nobody
   before or beside it. Who borrows the descriptor, writes and closes it is found out that way.

A child holds its parent's sockets from its fork to its exec, and a call holds a reference while it lasts: what looks
shared may pass by itself, so it is looked at again before it is refused.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from agent_broker.identity.evidence import Evidence, Freshness, Unknown
from agent_broker.ids import ExecId, ProcId
from agent_broker.kernel.events import OpenFile, Sender
from agent_broker.kernel.maps import TaskRecord
from agent_broker.kernel.sensor import Sensor


class Shared(Struct, frozen=True):
    """More than one process holds the connection, or held it a moment ago; may pass by itself."""

    why: str
    pids: frozenset[int] = frozenset()
    """Who holds it."""
    writers: tuple[tuple[ProcId, ExecId], ...] = ()
    """Who was seen to write on it."""


@contextmanager
def only_holder(found: tuple[OpenFile, ...]) -> Iterator[int | Unknown | Shared]:
    """Give a pidfd of the one process that holds a socket, closed in the end; or why there is none."""
    pids = pids_of(found)
    if not pids:
        yield Unknown("nobody holds the connection, and exactly one process must")
        return
    if len(pids) > 1:
        sentence = f"{len(pids)} processes hold the connection, and exactly one process must"
        yield Shared(sentence, pids, _writers(found[0].sender))
        return
    if found[0].references > found[0].readers + len(found):
        sentence = "the connection is held by more than its process's descriptors"
        yield Shared(sentence, pids, _writers(found[0].sender))
        return
    try:
        pidfd = os.pidfd_open(next(iter(pids)))
    except OSError as error:
        yield Unknown(f"the process that held the connection is gone ({error.strerror})")
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _writers(sender: Sender | None) -> tuple[tuple[ProcId, ExecId], ...]:
    if sender is None:
        return ()
    both = (sender.proc_id, sender.exec_id), (sender.other_proc_id, sender.other_exec_id)
    return tuple(each for each in both if each[0])


def pids_of(found: tuple[OpenFile, ...]) -> frozenset[int]:
    """Return the processes that hold a socket."""
    return frozenset(each.pid for each in found)


def record_of(sensor: Sensor, pid: int) -> TaskRecord | None:
    """Return the kernel's numbers of the process that has this pid now; None: it has none, or is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        return sensor.task_record(pidfd)
    finally:
        os.close(pidfd)


def other_writer(sender: Sender, holder: Freshness) -> tuple[ProcId, ExecId] | None:
    """Return the numbers of a program that wrote on a connection and is not its holder's; None: nobody else did."""
    if sender.other_proc_id:
        both = (sender.proc_id, sender.exec_id), (sender.other_proc_id, sender.other_exec_id)
        return next(each for each in reversed(both) if each != (holder.proc_id, holder.exec_id))
    first = (sender.proc_id, sender.exec_id)
    return None if first == (holder.proc_id, holder.exec_id) else first


def refusal(reason: str, who: Evidence | Unknown | None, *, next_step: str = "", hostile: bool = False) -> Unknown:
    """Return why a connection is nobody's, with the lineage of whoever is behind it, if that is known."""
    if who is None or not who.steps:
        return Unknown(reason, next_step, hostile=hostile)
    return Unknown(reason, next_step, who.uid, who.steps, hostile)


def refuse_shared(shared: Shared, sensor: Sensor, recall: Callable[[TaskRecord], Evidence | Unknown]) -> Unknown:
    """Return the refusal of a connection that stayed shared; who is not the agent and had a hand in it is named.

    A program that wrote everything, and whose own children alone hold the connection beside it, is named before them:
    between fork and exec they run its image.
    """
    records = [record for pid in sorted(shared.pids) if (record := record_of(sensor, pid)) is not None]
    writers = [TaskRecord(*each, 0) for each in shared.writers]
    all_run_one_image = len({each.exec_id for each in (*writers, *records)}) == 1
    if len(writers) == 1 < len(records) == len(shared.pids) and all_run_one_image:
        writer = recall(writers[0])
        if isinstance(writer, Evidence) and (writer.principal is None or writer.is_updated):
            return msgspec.structs.replace(refusal(shared.why, writer), writer=writer)
    for record in (*records, *writers):
        who = recall(record)
        if isinstance(who, Evidence) and (who.principal is None or not who.principal.is_caller):
            return refusal(shared.why, who)
    return Unknown(shared.why)
