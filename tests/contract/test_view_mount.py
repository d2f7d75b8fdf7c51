"""Who takes a view's mount away, and when: on the real kernel, with processes in place of brokers."""

import asyncio
import os
import subprocess

import pytest

from agent_broker.monitor import view_mount
from agent_broker.monitor.view_mount import ViewMount, is_mounted, take_away
from agent_broker.view import wire

pytestmark = pytest.mark.kernel

WAITING = ("/bin/sh", "-c", "echo; read end")


class Broker:
    """A process that ends when told; the descriptor of /dev/fuse is the test's, and answers nothing."""

    def __init__(self):
        self._process = subprocess.Popen(WAITING, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
        self._process.stdout.readline()
        self.pid = self._process.pid
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)

    def end(self):
        """Harmless if it has ended."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def begin(self):
        """Answer the kernel's first request; what comes after that is somebody's who waits."""
        first = wire.decode(os.read(self.fd, wire.BUFFER_BYTES))
        os.write(self.fd, wire.answer(first.unique, wire.init_answer(first.body)))

    async def asked(self):
        """Wait until somebody waits for its answer."""
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.fd, asked.set)
        await asked.wait()
        asyncio.get_running_loop().remove_reader(self.fd)
        return wire.decode(os.read(self.fd, wire.BUFFER_BYTES))

    def is_served(self):
        """Whether the kernel still holds the mount for it."""
        try:
            os.read(self.fd, wire.BUFFER_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


@pytest.fixture
def broker():
    made = Broker()
    yield made
    made.end()
    os.close(made.fd)


@pytest.fixture
def place(tmp_path):
    made = tmp_path / "files"
    yield made
    take_away(made)


async def gone(place):
    while is_mounted(place):
        await asyncio.sleep(0.01)


def killed(monitor):
    """It does nothing from now on."""
    monitor._forget()


async def test_the_end_of_its_broker_takes_it_away(place, broker):
    monitor = ViewMount(place)
    assert monitor.mount(broker.fd, broker.pid) == ""
    assert is_mounted(place)
    broker.end()
    await gone(place)


async def test_the_next_monitor_leaves_it_to_a_broker_that_lives_and_takes_it_away_at_its_end(place, broker):
    first, second = ViewMount(place), ViewMount(place)
    assert first.mount(broker.fd, broker.pid) == ""
    killed(first)
    second.begin()
    assert is_mounted(place)
    assert broker.is_served()
    broker.end()
    await gone(place)


async def test_the_next_monitor_takes_away_at_once_what_nobody_serves_any_more(place, broker):
    first = ViewMount(place)
    assert first.mount(broker.fd, broker.pid) == ""
    killed(first)
    broker.end()
    assert is_mounted(place)
    ViewMount(place).begin()
    assert not is_mounted(place)


@pytest.mark.parametrize("source", ["agent-broker", "agent-broker:x:1", "agent-broker:{pid}:1", "agent-broker:0:0"])
async def test_a_mount_that_names_no_process_or_an_earlier_one_of_that_number_is_taken_away(place, broker, source):
    place.mkdir()
    view_mount._mount(place, broker.fd, source.format(pid=broker.pid).encode())
    assert is_mounted(place)
    ViewMount(place).begin()
    assert not is_mounted(place)
    assert not broker.is_served()


async def test_a_monitor_that_stops_ends_the_wait_of_who_stands_before_a_broker_that_does_not_answer(place, broker):
    monitor = ViewMount(place)
    assert monitor.mount(broker.fd, broker.pid) == ""
    broker.begin()
    waits = await asyncio.create_subprocess_exec("/bin/cat", place / "x", stderr=asyncio.subprocess.PIPE, cwd="/")
    assert (await broker.asked()).pid == waits.pid
    monitor.close()
    _, said = await waits.communicate()
    assert waits.returncode == 1, said
    assert not is_mounted(place)
    assert not broker.is_served()


async def test_what_is_not_ours_stays_mounted(place):
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "agent-broker:1:1", place], check=True)
    try:
        monitor = ViewMount(place)
        monitor.begin()
        monitor.close()
        assert os.path.ismount(place)
    finally:
        subprocess.run(["umount", place], check=True)
