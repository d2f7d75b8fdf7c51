"""Who takes hold of an agent is seen without BPF LSM too (tier observe+), and what happens every day is not it."""

import os
import shutil
import subprocess

import pytest

from agent_broker.identity.evidence import Unchanged, Unknown
from agent_broker.kernel.wire import TAINT_TRACED, TAINT_WRITTEN
from tests.fakes.tampering import USER, World

pytestmark = pytest.mark.kernel

WAYS = {
    "attach": TAINT_TRACED,
    "seize": TAINT_TRACED,
    "poke": TAINT_TRACED | TAINT_WRITTEN,
    "vm-write": TAINT_WRITTEN,
    "mem-write": TAINT_WRITTEN,
    "mem-write-task": TAINT_WRITTEN,
    "io-uring-write": TAINT_WRITTEN,
}
LOOKS = ("vm-read", "mem-read", "mem-open-read", "mem-open-write")


@pytest.fixture
async def world():
    world = World()
    try:
        assert await world.enroll() == ()
        yield world
    finally:
        world.close()


async def assert_refused(world, victim, before):
    verdict = await world.attest(victim.pid)
    assert verdict.principal.is_caller
    assert verdict.taints != ()
    assert isinstance(await world.attestor.recheck(before.freshness), Unknown)
    assert isinstance(world.confirm(victim.pid, before.freshness), Unknown)


@pytest.mark.parametrize("how", WAYS)
async def test_who_takes_hold_of_an_agent_taints_it_and_is_named(world, how):
    victim = world.start()
    before = await world.attest(victim.pid)
    assert before.taints == ()
    assert isinstance(await world.attestor.recheck(before.freshness), Unchanged)
    assert isinstance(world.confirm(victim.pid, before.freshness), Unchanged)

    said, pid = world.tamper(how, victim)

    assert said == "done"
    assert world.taints(victim) == (WAYS[how], WAYS[how])
    for event in world.told():
        assert (event.proc_id, event.actor_pid) == (before.freshness.proc_id, pid)
        assert world.store.image(event.actor_exec_id).filename.endswith("/tamper")
    await assert_refused(world, victim, before)
    if WAYS[how] & TAINT_WRITTEN:
        assert victim.byte == "X"


@pytest.mark.parametrize(("how", "taint"), [("vm-write", TAINT_WRITTEN), ("attach", TAINT_TRACED)])
async def test_a_32_bit_program_is_no_way_around(world, how, taint):
    world.build_tamper32()
    victim = world.start()

    assert world.tamper(how, victim, program="tamper32")[0] == "done"

    assert world.taints(victim) == (taint, taint)


async def test_each_kind_of_hold_is_told_once(world):
    victim = world.start()
    for _ in range(5):
        world.tamper("vm-write", victim)

    assert [event.taint for event in world.told()] == [TAINT_WRITTEN]


async def test_an_agent_that_starts_under_a_tracer_is_tainted(world):
    """PTRACE_TRACEME before the exec: the parent holds the agent from its first instruction on."""
    code = (
        "import ctypes, os, sys, time\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n"
        "    os.execv(sys.argv[1], sys.argv[1:])\n"
        "os.waitpid(pid, 0)\n"
        "print(pid, flush=True)\n"
        "sys.stdin.read()\n"
        "os.kill(pid, 9)\n"
    )
    tracer = subprocess.Popen(
        ["/usr/bin/python3", "-c", code, str(world.agent)], user=USER, group=USER, extra_groups=(), cwd="/", env={},
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    verdict = await world.attest(int(tracer.stdout.readline()))
    tracer.communicate()

    assert verdict.principal.is_caller
    assert "a tracer was attached when it started" in verdict.taints[0]


@pytest.mark.parametrize("how", LOOKS)
async def test_reading_an_agents_memory_does_not_taint(world, how):
    victim = world.start()

    assert world.tamper(how, victim)[0] == "done"

    assert world.taints(victim) == (0, 0)


async def test_looking_at_an_agent_in_proc_does_not_taint(world):
    victim = world.start()
    names = ("cmdline", "environ", "maps", "smaps", "status", "stat", "exe", "auxv", "limits", "fd")
    script = f"for each in {' '.join(names)}; do cat /proc/{victim.pid}/$each; ls -l /proc/{victim.pid}/$each; done"

    for uid in (USER, 0):
        command = ["/bin/sh", "-c", f"{script}; ps -o pid,args,wchan -p {victim.pid}"]
        subprocess.run(command, user=uid, group=uid, extra_groups=(), check=False, capture_output=True)

    assert world.taints(victim) == (0, 0)


@pytest.mark.parametrize("how", WAYS)
async def test_root_may_debug_an_agent(world, how):
    victim = world.start()

    assert world.tamper(how, victim, uid=0)[0] == "done"

    assert world.taints(victim) == (0, 0)


@pytest.mark.parametrize("does", ["tool", "child", "own-code"])
async def test_what_an_agent_does_itself_does_not_taint(world, does):
    victim = world.start()

    for _ in range(20):
        assert victim.do(does) >= 0

    assert world.taints(victim) == (0, 0)


async def test_an_agent_on_an_overlay_runs_its_own_code(world):
    """There the kernel maps the file of a layer, whose numbers are others than those of the file that was executed."""
    layers = world.folder / "layers"
    for name in ("lower", "upper", "work", "merged"):
        (layers / name).mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", layers / "upper"], check=True)
    for name in ("up", "work"):
        (layers / "upper" / name).mkdir()
    world.agent.chmod(0o755)
    shutil.copy(world.agent, layers / "lower/agent")
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper/up,workdir={layers}/upper/work"
    subprocess.run(["mount", "-t", "overlay", "none", "-o", options, layers / "merged"], check=True)
    try:
        world.agent = layers / "merged/agent"
        os.chown(world.agent, USER, USER)
        assert await world.enroll() == ()

        verdict = await world.attest(world.start().pid)

        assert verdict.principal.is_caller
        assert verdict.taints == ()
    finally:
        world.end_all()
        subprocess.run(["umount", layers / "merged", layers / "upper"], check=True)


async def test_a_program_that_is_not_enrolled_is_its_owners_business(world):
    victim = world.start(world.others)

    assert world.tamper("poke", victim)[0] == "done"

    assert world.taints(victim) == (0, 0)
    assert world.told() == []


async def test_an_exec_puts_fresh_memory_in_place_and_ends_the_taint(world):
    victim = world.start()
    world.tamper("vm-write", victim)

    victim.become()

    assert world.taints(victim) == (0, 0)
    assert (await world.attest(victim.pid)).taints == ()


async def test_a_forked_child_has_a_copy_of_the_memory_and_of_the_taint(world):
    victim = world.start()
    world.tamper("vm-write", victim)

    child = victim.do("child")

    assert world.record(child).taints == TAINT_WRITTEN
    assert (await world.attest(child)).taints != ()


async def test_a_child_that_was_forked_before_is_not_tainted(world):
    victim = world.start()
    child = victim.do("child")

    world.tamper("vm-write", victim)

    assert world.record(child).taints == 0
