"""How long it takes to put marks in force in the tier enforce, against observe+ in the same kernel.

Run in the virtual machine, which is emulated: its times say nothing, the quotient does. The start of a monitor with as
many marks natively (tests/bench/many_marks.py) is observe+; what the tier enforce adds to it is this quotient.
``make test-vm`` prints its lines; nothing is asserted, since times are no tests.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule
from agent_broker.ids import AgentName, Uid
from agent_broker.kernel.marks import KernelMarks
from agent_broker.kernel.sensor import CoreSensor, KernelSensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.report import Watcher
from agent_broker.monitor.watch import DecoyWatch
from tests.fakes.attestor import World

COUNTS = (1_000, 10_000)
USER = Uid(1500)
_IN_A_FOLDER = 100
_SHARED_MEMORY = "/dev/shm"


async def main(counts: list[int]) -> None:
    """Measure each number of marks, in files of its own."""
    began = time.monotonic()
    store = Store(scan_strings, str)
    sensor = CoreSensor(store.apply)
    store.link_seeded()
    print(f"programs loaded in {time.monotonic() - began:.2f} s", flush=True)
    if sensor.marks is None:
        raise SystemExit(f"this kernel denies nothing by itself: {sensor.why_not_denied}")
    for count in counts:
        folder = Path(tempfile.mkdtemp(prefix="marks-", dir=_SHARED_MEMORY))
        folder.chmod(0o755)
        try:
            one, other = (_furnish(folder / name, count) for name in ("one", "other"))
            observed = await _apply(sensor, None, one)  # in turns, so that what grows slower or quicker is of no weight
            enforced = await _apply(sensor, sensor.marks, one) + await _apply(sensor, sensor.marks, other)
            observed += await _apply(sensor, None, other)
        finally:
            shutil.rmtree(folder)
        print(
            f"{count} deny marks put in force: {enforced / 2:.2f} s in enforce, {observed / 2:.2f} s in observe+: "
            f"{enforced / observed:.2f} x",
            flush=True,
        )
    sensor.close()


async def _apply(sensor: KernelSensor, marks: KernelMarks | None, enrollment: Enrollment) -> float:
    """Return the seconds that a watch takes to mark every decoy."""
    watch = DecoyWatch(
        attestor=World(), hashes=HashCache(), facts_of=lambda fd: sensor.own_file(fd).file,
        publish=lambda incident: print(incident.what), clock=SystemClock(), watcher=Watcher(World().epoch, "enforce"),
        permission=True, marks=marks,
    )  # fmt: skip
    began = time.monotonic()
    problems = watch.apply_registry([enrollment])
    took_s = time.monotonic() - began
    if problems or watch.decoys_watched != len(enrollment.decoys):
        raise SystemExit(f"the marks are not in force: {problems[:3]}")
    await watch.close()
    return took_s


def _furnish(folder: Path, count: int) -> Enrollment:
    paths = [folder / f"folder{number // _IN_A_FOLDER}/{number}" for number in range(count)]
    for each in sorted({path.parent for path in paths}):
        each.mkdir(parents=True)
        os.chown(each, USER, USER)
    for path in paths:
        path.touch()
        os.chown(path, USER, USER)
    decoys = tuple(DecoyFile(str(path), "claude-oauth", deny=True) for path in paths)
    return Enrollment(AgentName("agent"), USER, "user", (), RoleRule(("agent",)), decoys, (), 0)


if __name__ == "__main__":
    asyncio.run(main([int(each) for each in sys.argv[1:]] or list(COUNTS)))
