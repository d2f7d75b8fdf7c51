"""The environment of the session that an enrolment was called from, by /proc: to warn a person, not to decide.

``sudo`` hands on little of it, so it is read where the owner still is: the nearest process above this one that runs
as the owner, and what that one started (sudo itself), which was given the variables that a shell had set since.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from agent_broker.enroll.profile import Export
from agent_broker.ids import Uid

_PROC = Path("/proc")
_MAX_DEPTH = 64


def session_exports(owner_uid: Uid, pid: int | None = None) -> Iterator[Export]:
    """Yield the variables of the owner's session, each name once; none if nothing above runs as the owner.

    Args:
        owner_uid: whose session.
        pid: where to begin; None: the caller's parent.
    """
    below: int | None = None
    above = os.getppid() if pid is None else pid
    for _ in range(_MAX_DEPTH):
        try:
            status = dict(line.split(":\t", 1) for line in (_PROC / f"{above}/status").read_text().splitlines())
        except (OSError, ValueError):  # gone, or the top
            return
        if int(status["Uid"].split()[0]) == owner_uid:
            yield from _of_processes([above] if below is None else [below, above])
            return
        below, above = above, int(status["PPid"])


def _of_processes(pids: list[int]) -> Iterator[Export]:
    seen = set()
    for pid in pids:
        try:
            block = (_PROC / f"{pid}/environ").read_bytes()
            program = (_PROC / f"{pid}/comm").read_text().strip()
        except OSError:  # gone: nothing to warn of
            continue
        for entry in block.split(b"\0"):
            name, equals, value = os.fsdecode(entry).partition("=")
            if equals and name not in seen:
                seen.add(name)
                yield Export(name, f"this session ({program}, pid {pid})", value)
