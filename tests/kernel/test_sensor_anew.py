"""A sensor that starts while processes run: the older ones, and what it says when it loses something."""

import os
import subprocess

import pytest

from tests.fakes.backends import BACKENDS
from tests.kernel.test_sensor import Watched

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sensor_that_is_started_anew_knows_older_processes_and_loses_nothing_unsaid(backend):
    """A ring of 256 KiB has room for all older processes, and is full soon when nobody reads it.

    Full is: it had no room for a fork and none for an exec. A single loss may be one long record's, or an exit's.
    """
    older = subprocess.Popen(["/bin/sleep", "60"])
    watched = Watched(backend, ring_bytes=1 << 18)
    try:
        lineage = watched.lineage(older.pid)
        assert not lineage.steps[0].image.observed
        assert lineage.steps[1].image.pid == os.getpid()
        assert watched.sensor.losses().total == 0
        for _ in range(4000):
            if watched.sensor.losses().fork and watched.sensor.losses().exec:
                break
            subprocess.run(["/bin/true"], check=True)
        assert watched.lineage(watched.start("/bin/sleep", "60").pid).gap
    finally:
        older.kill()
        older.wait()
        watched.close()
