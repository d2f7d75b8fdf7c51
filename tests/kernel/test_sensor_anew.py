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
    older = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.write(older.stdin.fileno(), b"x")
    os.read(older.stdout.fileno(), 1)  # its exec is over: Popen returns a moment before
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
        older.communicate()
        watched.close()
