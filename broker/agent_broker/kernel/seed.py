"""Numbers for the processes that are older than the monitor."""

from agent_broker.kernel.loader import Loaded


def seed(programs: Loaded) -> None:
    """Give every live process that has no record one; a Seed event for each goes through the ring.

    Must run after the hooks are attached (Programs does that): a process that forks meanwhile is seeded by the
    fork hook itself, so nobody is missed and nobody is counted twice.

    Raises:
        UnavailableError: the kernel refused.
    """
    programs.read_iterator("seed")
