"""Many are asked for their lineage at once; whoever leaves, or whatever fails, everybody is answered."""

import asyncio
import os

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.monitor.messages import MAX_PROCESSES
from agent_broker.monitor.parents import Parents


class Monitor:
    """Tells of each descriptor which file it is; counts questions; each waits for its door."""

    def __init__(self):
        self.questions = []
        self.door = asyncio.Event()
        self.problem = None

    async def ask(self, fds):
        self.questions.append([os.fstat(fd).st_ino for fd in fds])
        await self.door.wait()
        if self.problem:
            raise self.problem
        return [(os.fstat(fd).st_ino,) for fd in fds]


@pytest.fixture
def files(tmp_path):
    fds = [os.open(tmp_path / str(number), os.O_CREAT | os.O_RDONLY) for number in range(2 * MAX_PROCESSES)]
    yield fds
    for fd in fds:
        os.close(fd)


def asking(parents, files):
    return [asyncio.create_task(parents.of(fd)) for fd in files]


async def test_those_who_come_while_a_question_is_under_way_are_in_the_next_one(files):
    monitor = Monitor()
    parents = Parents(monitor.ask)
    tasks = asking(parents, files[:1])
    while not monitor.questions:
        await asyncio.sleep(0)
    tasks += asking(parents, files[1:])
    await asyncio.sleep(0)
    monitor.door.set()
    assert [await task for task in tasks] == [(os.fstat(fd).st_ino,) for fd in files]
    assert [len(each) for each in monitor.questions] == [1, MAX_PROCESSES, MAX_PROCESSES - 1]


async def test_who_leaves_and_closes_its_descriptor_is_asked_about_all_the_same(files):
    monitor = Monitor()
    parents = Parents(monitor.ask)
    gone = os.dup(files[0])
    (leaver,) = asking(parents, [gone])
    await asyncio.sleep(0)
    os.close(gone)
    leaver.cancel()
    (other,) = asking(parents, files[1:2])
    monitor.door.set()
    assert await other == (os.fstat(files[1]).st_ino,)


@pytest.mark.parametrize("problem", [UnavailableError("down"), None])
async def test_a_monitor_that_is_down_tells_nobodys_lineage_and_the_next_question_is_asked(files, problem):
    monitor = Monitor()
    monitor.problem = problem
    monitor.door.set()
    parents = Parents(monitor.ask)
    before = len(os.listdir("/proc/self/fd"))
    first = await parents.of(files[0])
    assert first == (() if problem else (os.fstat(files[0]).st_ino,))
    monitor.problem = None
    assert await parents.of(files[1]) == (os.fstat(files[1]).st_ino,)
    assert len(os.listdir("/proc/self/fd")) == before
