"""A daemon is killed while a viewed file is open: nobody reads it then, nothing hangs, and a start brings it back."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent_broker.monitor.view_mount import is_mounted
from tests.bench.stage import OWNER, stage
from tests.bench.viewed import viewed_file
from tests.e2e.patience import until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_SOURCE = Path(__file__).parent / "view/held.c"
_FLAGS = ("-D_GNU_SOURCE", "-std=gnu17", "-O2", "-static", "-Wall", "-Wextra", "-Werror")


class Reader:
    """One that has the file open."""

    def __init__(self, program, path):
        self._process = subprocess.Popen(
            [program, path], cwd="/", user=OWNER, group=OWNER, extra_groups=[], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.first = self._process.stdout.readline().strip()

    def asked(self):
        """What the open file, and a new open, give now."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [self._process.stdout.readline().strip() for _ in range(2)]

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="module")
def place():
    with stage() as made:
        reader, stranger = made.driver("held-reader"), made.driver("held-stranger")
        subprocess.run(["cc", *_FLAGS, "-o", reader, _SOURCE], check=True)
        stranger.write_bytes(reader.read_bytes())
        stranger.chmod(0o755)
        with viewed_file(made, reader) as path:
            yield made, path, reader, stranger
        made.have(monitor=False, broker=False)
        assert not is_mounted(made.layout.view_folder)


def seen(program, path):
    reader = Reader(program, path)
    reader.close()
    return reader.first


@pytest.mark.parametrize("name", ["broker", "monitor"])
def test_who_has_it_open_reads_nothing_from_a_killed_daemon_and_a_start_brings_it_back(place, name):
    made, path, reader, stranger = place
    held, other = Reader(reader, path), Reader(stranger, path)
    assert (held.first, other.first) == ("REAL", "FAKE")
    assert (held.asked(), other.asked()) == (["REAL", "REAL"], ["FAKE", "FAKE"])

    daemon = getattr(made, name)
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.stop()

    told = [*held.asked(), *other.asked(), seen(reader, path), seen(stranger, path)]
    assert "REAL" not in told, told
    if name == "broker":
        assert {*told} <= {"ENOTCONN", "ECONNABORTED", "ENOENT", "EIO", "ENODEV"}, told
    made.have(monitor=True, broker=True)
    assert until(lambda: seen(reader, path) == "REAL")
    assert seen(stranger, path) == "FAKE"
    held.close()
    other.close()


@pytest.mark.parametrize("first", ["broker", "monitor"])
@pytest.mark.parametrize("killed", ["monitor", "broker", ""])
def test_nothing_stays_mounted_when_both_were_stopped_and_a_start_brings_it_back(place, first, killed):
    made, path, reader, stranger = place
    if killed:
        os.kill(getattr(made, killed).pid, signal.SIGKILL)
        getattr(made, killed).stop()
    made.have(monitor=True, broker=True)
    assert until(lambda: seen(reader, path) == "REAL")
    held = Reader(stranger, path)
    getattr(made, first).stop()
    made.have(monitor=False, broker=False)
    assert not is_mounted(made.layout.view_folder)
    assert "FAKE" not in held.asked()
    made.have(monitor=True, broker=True)
    assert until(lambda: seen(reader, path) == "REAL")
    assert seen(stranger, path) == "FAKE"
    held.close()


def test_a_monitor_takes_away_at_its_start_what_a_killed_one_and_a_broker_left(place):
    made, path, reader, _ = place
    for each in (made.monitor, made.broker):
        os.kill(each.pid, signal.SIGKILL)
        each.stop()
    assert is_mounted(made.layout.view_folder)
    made.have(monitor=True, broker=False)
    assert not is_mounted(made.layout.view_folder)
    made.have(monitor=True, broker=True)
    assert until(lambda: seen(reader, path) == "REAL")
