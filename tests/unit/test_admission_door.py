import asyncio
import itertools
import socket
import time

import pytest

from agent_broker.admission.door import Door

GUESTS = 12
LONG_S = 0.001  # longer than a slice: one connection each


@pytest.fixture
def listener(tmp_path):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(tmp_path / "door"))
    made.listen(GUESTS)
    guests = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(GUESTS)]
    for each in guests:
        each.connect(str(tmp_path / "door"))
    yield made
    made.close()
    for each in guests:
        each.close()


async def admitted(listener, rest_times, *, is_free):
    """Return when each guest was admitted, each of which took ``LONG_S``."""
    times_s = []

    def admit(connection):
        connection.close()
        times_s.append(time.monotonic())
        time.sleep(LONG_S)
        return is_free

    door = Door(listener, admit, lambda: None, rest_times=rest_times)
    door.open()
    while len(times_s) < GUESTS:
        await asyncio.sleep(0)
    door.close()
    return times_s


async def test_a_door_rests_while_it_turns_away(listener):
    times_s = await admitted(listener, 5, is_free=False)
    pauses_s = [later - earlier for earlier, later in itertools.pairwise(times_s)]
    assert min(pauses_s) >= 5 * LONG_S


async def test_it_does_not_rest_while_there_are_free_places(listener):
    assert len(await admitted(listener, 1_000_000, is_free=True)) == GUESTS


async def test_a_door_that_never_rests_does_not(listener):
    assert len(await admitted(listener, 0, is_free=False)) == GUESTS


async def test_a_door_that_was_closed_while_it_rested_stays_closed(listener):
    has_admitted = asyncio.Event()

    def admit(connection):
        connection.close()
        time.sleep(LONG_S)
        has_admitted.set()
        return False

    door = Door(listener, admit, lambda: None, rest_times=5)
    door.open()
    await has_admitted.wait()
    door.close()
    await asyncio.sleep(20 * LONG_S)
    assert listener.fileno() < 0
