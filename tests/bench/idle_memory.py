"""What both daemons hold while nothing happens: the proportional share of every page, as the kernel counts it."""

import re
import time
from pathlib import Path

from tests.bench.figures import CannotMeasureError, Figure
from tests.bench.stage import Stage

_IDLE_S = 1.0
_KIB = 1024


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    stage.have(monitor=True, broker=True)
    time.sleep(_IDLE_S)
    monitor, broker = pss_bytes(stage.monitor.pid), pss_bytes(stage.broker.pid)
    detail = f"monitor {monitor / 1e6:.0f}, broker {broker / 1e6:.0f}"
    return [Figure("memory", (monitor + broker) / 1e6, detail)]


def pss_bytes(pid: int) -> int:
    """Return Pss of /proc/PID/smaps_rollup (proc(5)), in bytes."""
    found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    if found is None:
        raise CannotMeasureError("this kernel does not tell a process's PSS")
    return int(found[1]) * _KIB
