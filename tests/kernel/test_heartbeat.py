"""The kernel side's heartbeat, with hooks that are really taken away: nothing is believed from then on."""

import asyncio
import errno
import os
import subprocess

import pytest

from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from tests.fakes.beating import Beating

pytestmark = pytest.mark.kernel


@pytest.fixture
async def world():
    made = Beating()
    made.heartbeat.start(made.sensor)
    yield made
    await made.close()


@pytest.fixture
def child():
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.write(process.stdin.fileno(), b"x")
    os.read(process.stdout.fileno(), 1)  # it runs: Popen returns a moment before the kernel side sees the exec
    pidfd = os.pidfd_open(process.pid)
    yield pidfd
    os.close(pidfd)
    process.communicate()


async def test_a_kernel_side_that_reports_is_proven(world, child):
    assert await world.heartbeat.prove() == ""
    assert world.heartbeat.is_fresh
    assert world.told == []
    assert world.attestor.attest_now(child) is not None


async def test_a_recheck_waits_for_a_beat_that_is_late(world, child):
    known = await world.attestor.attest(child)
    world.age()

    assert world.attestor.recheck_now(known.freshness) is None
    assert isinstance(await world.attestor.recheck(known.freshness), Unchanged)


async def test_a_confirmation_waits_for_a_beat_that_is_late(world, child):
    known = await world.attestor.attest(child)
    world.age()

    assert world.attestor.confirm_now(child, known.freshness) is None
    assert isinstance(await world.attestor.confirm(child, known.freshness), Unchanged)


@pytest.mark.parametrize("hook", ["fork", "exec", "exit"])
async def test_a_hook_that_is_detached_is_missed_and_nobody_is_known_any_more(world, child, hook):
    assert await world.heartbeat.prove() == ""
    known = await world.attestor.attest(child)
    assert isinstance(known, Evidence)
    world.detach(hook)
    world.age()

    verdict = await world.attestor.attest(child)

    assert isinstance(verdict, Unknown)
    assert "does not report any more" in verdict.reason
    assert world.told == [world.heartbeat.blind]
    assert isinstance(await world.attestor.recheck(known.freshness), Unknown)
    assert isinstance(world.attestor.recall(world.attestor.snapshot(child)), Unknown)


async def test_all_hooks_gone_is_said(world):
    assert await world.heartbeat.prove() == ""
    for hook in ("fork", "exec", "exit"):
        world.detach(hook)
    world.age()

    assert "got no numbers" in await world.heartbeat.prove()


@pytest.mark.parametrize("hook", ["exec", "trace", "signal"])
async def test_a_link_that_was_closed_is_missed(world, hook):
    assert await world.heartbeat.prove() == ""
    world.close_link(hook)
    world.age()

    assert f"the hooks {hook} are not attached" in await world.heartbeat.prove()


async def test_the_kernel_detaches_no_link_of_ours_by_force(world):
    assert world.force_detach("fork") == errno.EOPNOTSUPP
    world.age()
    assert await world.heartbeat.prove() == ""


async def test_blindness_is_final_and_is_told_once(world):
    assert await world.heartbeat.prove() == ""
    world.detach("exit")
    world.age()

    first = await world.heartbeat.prove()
    second = await world.heartbeat.prove()

    assert first == second
    assert len(world.told) == 1


async def test_a_proof_that_is_too_old_is_waited_for(world, child):
    assert await world.heartbeat.prove() == ""
    world.age()

    assert world.attestor.attest_now(child) is None
    assert isinstance(await world.attestor.attest(child), Evidence)
    assert world.attestor.attest_now(child) is not None


async def test_a_storm_of_processes_is_not_taken_for_blindness(world):
    storm = subprocess.Popen(["/bin/sh", "-c", "i=0; while [ $i -lt 1500 ]; do /bin/true; i=$((i+1)); done"])
    while storm.poll() is None:
        world.age()
        assert await world.heartbeat.prove() == ""
        await asyncio.sleep(0.02)
    assert world.told == []
