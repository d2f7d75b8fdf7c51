import asyncio
import socket

import pytest

from agent_broker.admission import waiting_room
from agent_broker.admission.waiting_room import WaitingRoom


@pytest.fixture
def room(monkeypatch):
    monkeypatch.setattr(waiting_room, "HOLD_S", 0.02)
    monkeypatch.setattr(waiting_room, "MAX_HELD", 3)
    return WaitingRoom()


@pytest.fixture
def pairs():
    made = [socket.socketpair() for _ in range(5)]
    for near, far in made:
        near.setblocking(False)
        far.setblocking(False)
    yield made
    for pair in made:
        for end in pair:
            end.close()


def heard(far):
    try:
        return far.recv(100)
    except BlockingIOError:
        return None


async def test_each_gets_its_answer_when_it_has_waited(room, pairs):
    for near, _ in pairs[:2]:
        room.put(near, b"no")
    assert [heard(far) for _, far in pairs[:2]] == [None, None]

    while len(room):
        await asyncio.sleep(0.001)

    assert [heard(far) for _, far in pairs[:2]] == [b"no", b"no"]
    assert [heard(far) for _, far in pairs[:2]] == [b"", b""]


async def test_who_comes_after_a_pause_waits_too(room, pairs):
    for near, far in pairs[:2]:
        room.put(near, b"no")
        while len(room):
            await asyncio.sleep(0.001)
        assert heard(far) == b"no"


async def test_when_it_is_full_the_oldest_is_answered_at_once(room, pairs):
    for near, _ in pairs:
        room.put(near, b"no")
    assert [heard(far) for _, far in pairs] == [b"no", b"no", None, None, None]
    room.close()


async def test_closing_answers_all(room, pairs):
    for near, _ in pairs[:3]:
        room.put(near, b"no")
    room.close()
    assert [heard(far) for _, far in pairs[:3]] == [b"no"] * 3


async def test_a_peer_that_is_gone_keeps_nobody_waiting(room, pairs):
    pairs[0][1].close()
    for near, _ in pairs[:2]:
        room.put(near, b"no")
    room.close()
    assert heard(pairs[1][1]) == b"no"
