"""Where time comes from, so that tests can move it."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the product asks of time."""

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch (CLOCK_REALTIME): for people and for expiry dates."""
        ...

    def boot_ns(self) -> int:
        """Return nanoseconds since boot, suspend included (CLOCK_BOOTTIME): for leases and rates."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall_ns(self) -> int:
        """See Clock."""
        return time.time_ns()

    def boot_ns(self) -> int:
        """See Clock."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
