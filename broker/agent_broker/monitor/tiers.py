"""What this kernel lets the monitor do, found out by trying; DESIGN section 5 has the table.

``enforce`` needs decoys that are denied by BPF LSM, which does not exist here yet: it is never claimed. What is denied
or seen of attacks on a running agent, also by BPF LSM, is told apart from the tier (monitor.sight).
"""

import os
from dataclasses import dataclass

from agent_broker.errors import UnavailableError
from agent_broker.monitor.decoys import open_group
from agent_broker.monitor.fanotify import FAN_OPEN, FAN_OPEN_PERM

OBSERVE_PLUS = "observe+"
OBSERVE = "observe"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Tier:
    """What is possible here."""

    name: str
    """``observe+``, ``observe`` or ``none``: with ``none``, nothing is ever released; decoys still alert."""
    permission: bool
    """Whether openers of decoys can be made to wait, and be denied."""
    problems: tuple[str, ...] = ()
    """Why it is not better, for doctor."""


def detect(*, bpf_problem: str = "") -> Tier:
    """Try fanotify on a file of our own, and return the tier.

    Args:
        bpf_problem: why the lineage programs are not loaded; empty if they are.

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
    return Tier(OBSERVE_PLUS, permission=True)


def _probe(*, permission: bool) -> None:
    group = open_group(permission=permission)
    fd = os.memfd_create("agent-broker-probe", os.MFD_CLOEXEC)
    try:
        group.mark(fd, FAN_OPEN_PERM if permission else FAN_OPEN)
    finally:
        os.close(fd)
        group.close()
