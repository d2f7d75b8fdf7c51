"""Which tests run beside each other: one lane a worker of pytest-xdist, and what must not meet shares a lane.

A file's tests stay together, as its worlds are made once for all of them. The kernel's tests stay together too, one
after the other: they load their own BPF programs, and count what the whole machine does. What takes long comes first,
so that the lanes end at about the same time.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

KERNEL = "tests/kernel"
LONGEST = (
    "tests/e2e/test_agents.py", KERNEL, "tests/contract/test_enroll_every_step.py",
    "tests/contract/test_enroll_no_room.py", "tests/e2e/test_accounts.py", "tests/e2e/test_attacks.py",
    "tests/e2e/test_opens.py", "tests/e2e/test_agents_generic.py", "tests/e2e/test_ssh_agent.py",
    "tests/e2e/test_noise.py", "tests/e2e/test_blind.py", "tests/e2e/test_demo.py", "tests/e2e/test_roles.py",
    "tests/contract/test_plant.py", "tests/property/test_journal_damage.py", "tests/e2e/test_decoys_planted.py",
)  # fmt: skip
"""From 365 s down to 28 s, on two cores that others used too."""


def lane_of(nodeid: str) -> str:
    """Return what the test shares a lane with: a file, or the folder of the kernel's tests."""
    file = nodeid.partition("::")[0]
    return KERNEL if file.startswith(f"{KERNEL}/") else file


def by_length(items: list[pytest.Item]) -> None:
    """Put what takes long first; the rest stays in order."""
    place = {lane: number for number, lane in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(lane_of(item.nodeid), len(place)))


class Lanes(LoadScopeScheduling):
    """Gives a lane's next tests to whoever is idle, in the order that ``by_length`` made."""

    def __init__(self, config: pytest.Config, log=None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)
