"""Processes whose Exit was lost: found by asking the kernel, so that a flood can't fill the monitor's memory for good.

Only once Exits were lost, and then every LOOK_S: each look costs some 3 us for each live process.
"""

import os

from agent_broker.clock import Clock
from agent_broker.ids import Pid, ProcId
from agent_broker.kernel.sensor import Sensor
from agent_broker.lineage.store import Store

LOOK_S = 60


class LostExits:
    """See the module. Lives in the monitor's event loop."""

    def __init__(self, sensor: Sensor, store: Store, clock: Clock) -> None:
        self._sensor = sensor
        self._store = store
        self._clock = clock
        self._looked_ns = clock.boot_ns()

    def look(self) -> int:
        """End the processes that are gone, if it is time to; return how many."""
        now_ns = self._clock.boot_ns()
        if now_ns - self._looked_ns < LOOK_S * 10**9:
            return 0
        self._looked_ns = now_ns
        if not self._sensor.losses().exit:
            return 0
        return self._store.end_unless(self._lives)

    def _lives(self, proc_id: ProcId, pid: Pid) -> bool:
        """Whether the process of this number is the recorded one; yes also if the kernel can't be asked."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        try:
            record = self._sensor.task_record(pidfd)
            return record is not None and record.proc_id == proc_id
        finally:
            os.close(pidfd)
