"""What this kernel lets the monitor do, found out by trying; DESIGN section 5 has the table.

``enforce`` is claimed if every program that denies a marked file was loaded and attached, and openers can be held up:
what the kernel can't decide by itself is decided there. What is denied or seen of attacks on a running agent is told
apart from the tier (monitor.sight).
"""

import os
from dataclasses import dataclass

from agent_broker.errors import UnavailableError
from agent_broker.monitor.decoys import open_group
from agent_broker.monitor.fanotify import FAN_OPEN, FAN_OPEN_PERM

ENFORCE = "enforce"
OBSERVE_PLUS = "observe+"
OBSERVE = "observe"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Tier:
    """What is possible here."""

    name: str
    """``enforce``, ``observe+``, ``observe``, or ``none``: then nothing is ever released; decoys still alert."""
    permission: bool
    """Whether openers of decoys can be made to wait, and be denied."""
    problems: tuple[str, ...] = ()
    """Why it is not better, for doctor."""


def detect(*, bpf_problem: str = "", denies: bool = False) -> Tier:
    """Try fanotify on a file of our own, and return the tier.

    Args:
        bpf_problem: why the lineage programs are not loaded; empty if they are.
        denies: whether the kernel side denies marked files by itself.

    Raises:
        UnavailableError: not even notification works: decoys can't be watched at all.
    """
    try:
        _probe(permission=True)
    except UnavailableError as error:
        _probe(permission=False)
        refused = (f"openers of decoys are seen but can't be denied, nor held up: {error.explain()}",)
        problems = (bpf_problem, *refused) if bpf_problem else refused
        return Tier(NONE if bpf_problem else OBSERVE, permission=False, problems=problems)
    if bpf_problem:
        return Tier(NONE, permission=True, problems=(bpf_problem,))
    return Tier(ENFORCE if denies else OBSERVE_PLUS, permission=True)


def _probe(*, permission: bool) -> None:
    group = open_group(permission=permission)
    fd = os.memfd_create("agent-broker-probe", os.MFD_CLOEXEC)
    try:
        group.mark(fd, FAN_OPEN_PERM if permission else FAN_OPEN)
    finally:
        os.close(fd)
        group.close()
