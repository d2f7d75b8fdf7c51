"""A ring that is far too small, and a burst that nobody reads: every loss is counted, and what it hid is denied."""

import asyncio
import os
import subprocess

from agent_broker.identity.attest import Attestor
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Unknown
from agent_broker.identity.executable import HashCache
from agent_broker.ids import Epoch
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store
from tests.bench import drivers
from tests.bench.figures import CannotMeasureError, Figure
from tests.bench.stage import Stage

_RING_BYTES = 4096  # one page, the smallest that the kernel makes
_EXECS = 200


def run(stage: Stage) -> list[Figure]:
    stage.have(monitor=False, broker=False)
    store = Store(scan_strings, str)
    sensor = CoreSensor(store.apply, ring_bytes=_RING_BYTES)
    try:
        store.link_seeded()
        attestor = Attestor(epoch=Epoch("bench"), tier="bench", sensor=sensor, store=store, hashes=HashCache())
        before = sensor.losses().total
        drivers.run([stage.driver("burst"), str(_EXECS), "8", "20", stage.driver("empty")])
        verdict = _attest_one(attestor)
        lost = sensor.losses().total - before
    finally:
        sensor.close()
    if not isinstance(verdict, Unknown):
        raise CannotMeasureError("a process whose events were lost was attested all the same")
    return [Figure("forced-loss", lost, f"ring of {_RING_BYTES} bytes, {_EXECS} execs; denied: {verdict.reason}")]


def _attest_one(attestor: Attestor) -> object:
    """Start a process while the ring is full, so that its events are lost, and ask who it is."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            return asyncio.run(attestor.attest(pidfd))
        finally:
            os.close(pidfd)
            process.communicate()
