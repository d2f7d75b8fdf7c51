"""Real processes that make the monitor hash their files: one lineage waits behind itself, another does not."""

import asyncio
import os
import shutil
import threading
from pathlib import Path

import pytest

from agent_broker.identity import executable
from agent_broker.monitor import fingerprint
from agent_broker.monitor.fingerprint import Fingerprints, hold
from tests.kernel.test_attest_real import World

pytestmark = pytest.mark.kernel

FLOOD = 12
_SLEEPS = "1000"
_HIDDEN = 'for each in "$@"; do (setsid "$each" 1000 <&- >&- 2>&- & echo $!); done; cat'
"""Each by a shell that ends at once, in a session of its own: in the live tree nobody's child."""


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    assert await world.enroll() == ()
    yield world
    world.close()


def copies(folder, count):
    """Make programs: each has a file of its own to be hashed."""
    made = []
    for number in range(count):
        made.append(folder / f"program-{number}")
        shutil.copy(Path("/bin/sleep").resolve(), made[-1])
    return made


async def evidence(world, pid, program):
    """Attest a process once it runs its program."""
    pidfd = os.pidfd_open(pid)
    try:
        while True:
            verdict = await world.attestor.attest(pidfd)
            if verdict.steps and verdict.steps[0].image.filename == str(program):
                return verdict
            await asyncio.sleep(0.001)
    finally:
        os.close(pidfd)


async def test_a_flood_of_hidden_children_lets_another_lineage_be_hashed_first(world, tmp_path, monkeypatch):
    gate, hashed, real = threading.Event(), [], executable.hash_open_file

    def hash_open_file(fd, progress=None):
        gate.wait()
        hashed.append(os.fstat(fd).st_ino)
        return real(fd, progress)

    monkeypatch.setattr(executable, "hash_open_file", hash_open_file)
    monkeypatch.setattr(fingerprint, "DEADLINE_S", 3600)
    monkeypatch.setattr(fingerprint, "MAX_AT_ONCE", 1)  # so that the order of the hashes is that of the turns
    prints = Fingerprints(world.hashes, lambda fd: world.sensor.own_file(fd).file)
    *programs, other = copies(tmp_path, FLOOD + 1)
    attacker = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", _HIDDEN, "sh", *programs, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    pids = [int(await attacker.stdout.readline()) for _ in programs]
    try:
        flood = [await evidence(world, *each) for each in zip(pids, programs, strict=True)]
        quiet = await evidence(world, world.start(other, _SLEEPS).pid, other)
        assert all(attacker.pid in {step.image.pid for step in each.steps} for each in flood)
        asks = [
            asyncio.create_task(prints.of(hold(each.caller.pid), each.caller.file, each.steps))
            for each in (*flood, quiet)
        ]
        while prints._turns.waiting < FLOOD:  # one has its turn, all others wait
            await asyncio.sleep(0)
        gate.set()
        found = await asyncio.gather(*asks)
    finally:
        gate.set()
        for pid in pids:
            os.kill(pid, 9)
        await attacker.communicate(b"")

    assert [each.problem for each in found] == [""] * (FLOOD + 1)
    assert hashed.index(other.stat().st_ino) == 1
