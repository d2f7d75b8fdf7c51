"""With BPF LSM (tier enforce): nobody but root takes hold of an agent, and foreign code in it is seen at once."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.kernel.wire import TAINT_DENIED, TAINT_MAPPED, TAINT_TRACED, TAINT_WRITTEN
from tests.fakes.tampering import USER, World

HOLDS = {
    "attach": errno.EPERM,
    "seize": errno.EPERM,
    "poke": errno.EPERM,
    "vm-write": errno.EPERM,
    "vm-read": errno.EPERM,
    "mem-write": errno.EACCES,
    "mem-write-task": errno.EACCES,
    "mem-read": errno.EACCES,
    "mem-open-read": errno.EACCES,
    "mem-open-write": errno.EACCES,
    "io-uring-write": errno.EACCES,
    "getfd": errno.EPERM,
}
SEEN = {
    "attach": TAINT_TRACED,
    "seize": TAINT_TRACED,
    "poke": TAINT_TRACED | TAINT_WRITTEN,
    "vm-write": TAINT_WRITTEN,
    "mem-write": TAINT_WRITTEN,
    "mem-write-task": TAINT_WRITTEN,
    "io-uring-write": TAINT_WRITTEN,
    "vm-read": 0,
    "mem-read": 0,
}
MONITOR = """
import os, sys
from pathlib import Path
from agent_broker.kernel.loader import Programs
from agent_broker.kernel.maps import KernelMaps
programs = Programs()
maps = KernelMaps(programs)
with Path(sys.argv[1]).open("rb") as file:
    facts = maps.own_file(file.fileno()).file
maps.register(facts.dev, facts.ino, guard=True)
print("ready", flush=True)
sys.stdin.read()
"""
HOLDER = "import sys\nf = open(sys.argv[1], 'r+b', 0)\nprint(1, flush=True)\nsys.stdin.readline()\n"
HOLDER += "f.seek(int(sys.argv[2], 16))\nf.write(b'X')\nprint(2, flush=True)\n"


@pytest.fixture(scope="module")
def world():
    """One for all: loading takes seconds under emulation."""
    world = World()
    try:
        assert asyncio.run(world.enroll()) == ()
        world.build_tamper32()
        yield world
    finally:
        world.close()


@pytest.fixture
def interpreter(world):
    """A registered program whose file says nothing about who it is: not guarded by its file."""
    with world.others.open("rb") as file:
        facts = world.sensor.own_file(file.fileno()).file
    world.sensor.register(facts.dev, facts.ino)
    yield world.start(world.others)
    world.sensor.unregister(facts.dev, facts.ino)


def guard(world, pid):
    pidfd = os.pidfd_open(pid)
    try:
        return world.sensor.guard(pidfd)
    finally:
        os.close(pidfd)


def told_since(world, count):
    return [event.taint for event in world.told()[count:]]


def test_this_kernel_has_every_hook_of_the_enforce_tier(world):
    assert not {"trace", "memory", "guard", "map_code", "protect_code"} & world.sensor.missing.keys()


@pytest.mark.parametrize("how", HOLDS)
def test_taking_hold_of_an_agent_is_denied_to_its_own_user(world, how):
    victim = world.start()

    assert world.tamper(how, victim)[0] == HOLDS[how]

    assert victim.byte == "A"
    assert world.record(victim.pid).taints == 0
    assert asyncio.run(world.attest(victim.pid)).taints == ()


@pytest.mark.parametrize("how", ["vm-write", "attach"])
def test_a_32_bit_program_is_denied_too(world, how):
    assert world.tamper(how, world.start(), program="tamper32")[0] == errno.EPERM


@pytest.mark.parametrize("how", HOLDS)
def test_a_program_that_is_not_enrolled_is_its_owners_business(world, how):
    assert world.tamper(how, world.start(world.others))[0] == "done"


@pytest.mark.parametrize("how", HOLDS)
def test_root_may_take_hold_of_an_agent(world, how):
    victim = world.start()

    assert world.tamper(how, victim, uid=0)[0] == "done"

    assert world.record(victim.pid).taints == 0


def test_who_tried_is_told_once_for_a_program(world):
    victim = world.start()
    before = len(world.told())
    pids = [world.tamper("vm-write", victim)[1] for _ in range(3)]

    (event,) = world.told()[before:]
    assert (event.taint, event.actor_pid) == (TAINT_DENIED, pids[0])
    assert world.store.image(event.actor_exec_id).filename.endswith("/tamper")


def test_a_forked_child_of_an_agent_is_guarded_until_it_executes_something_else(world):
    victim = world.start()
    child = world.start()
    child.pid = victim.do("child")

    assert world.tamper("attach", child)[0] == errno.EPERM
    victim.become(world.others)
    assert world.tamper("attach", victim)[0] == "done"


def test_looking_at_an_agent_is_not_taking_hold_of_it(world):
    victim = world.start()
    before = len(world.told())
    files = [f"/proc/{victim.pid}/{name}" for name in ("cmdline", "environ", "maps", "status", "stat", "limits")]

    subprocess.run(["/bin/cat", *files], user=USER, group=USER, extra_groups=(), check=True, capture_output=True)
    subprocess.run(["/bin/ps", "-fp", str(victim.pid)], user=USER, group=USER, check=True, capture_output=True)

    assert told_since(world, before) == []


@pytest.mark.parametrize("how", SEEN)
def test_what_is_not_guarded_is_watched_on_this_kernel_too(world, interpreter, how):
    assert world.tamper(how, interpreter)[0] == "done"

    assert world.taints(interpreter) == (SEEN[how], SEEN[how])


def test_an_interpreter_is_guarded_from_when_it_was_attested(world, interpreter):
    assert world.tamper("attach", interpreter)[0] == "done"
    assert world.record(interpreter.pid).taints == TAINT_TRACED

    assert guard(world, interpreter.pid)

    assert world.tamper("attach", interpreter)[0] == errno.EPERM
    assert world.tamper("vm-write", world.start(world.others))[0] == "done"


def test_the_guard_of_an_attested_process_ends_with_its_program(world, interpreter):
    guard(world, interpreter.pid)

    interpreter.become(world.others)

    assert world.tamper("vm-write", interpreter)[0] == "done"


def test_a_hold_that_is_older_than_the_guard_taints_when_it_is_used(world, interpreter):
    holder = subprocess.Popen(
        ["/usr/bin/python3", "-c", HOLDER, f"/proc/{interpreter.pid}/mem", interpreter.address],
        user=USER, group=USER, extra_groups=(), cwd="/", env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    holder.stdout.readline()
    guard(world, interpreter.pid)
    assert world.record(interpreter.pid).taints == 0

    holder.communicate(b"\n")

    assert interpreter.byte == "X"
    assert world.record(interpreter.pid).taints == TAINT_WRITTEN


@pytest.mark.parametrize("how", ["map", "protect"])
def test_code_from_a_file_of_the_user_taints_at_once_although_it_is_gone_again(world, how):
    victim = world.start()
    assert asyncio.run(world.attest(victim.pid)).taints == ()

    assert victim.do(f"{how} {world.library()}") == 0

    assert world.taints(victim) == (TAINT_MAPPED, TAINT_MAPPED)
    assert "mapped code" in asyncio.run(world.attest(victim.pid)).taints[0]


def test_code_from_a_file_that_its_group_may_write_taints(world):
    victim = world.start()
    path = world.library(owner=0)
    Path(path).chmod(0o775)

    victim.do(f"map {path}")

    assert world.record(victim.pid).taints == TAINT_MAPPED


@pytest.mark.parametrize("how", ["map", "protect"])
def test_code_of_root_of_the_agent_and_of_a_jit_does_not_taint(world, how):
    victim = world.start()
    part = world.library()
    world.allow_part(part)

    assert victim.do(f"{how} {world.library(owner=0)}") == 0
    assert victim.do(f"{how} {part}") == 0
    assert victim.do(f"{how} {world.agent}") == 0
    assert victim.do("own-code") == 0

    assert world.taints(victim) == (0, 0)


def test_an_exec_of_another_program_is_not_foreign_code_in_the_agent(world):
    victim = world.start()
    before = len(world.told())

    victim.become(world.others)

    assert told_since(world, before) == []
    assert world.record(victim.pid).taints == 0


def test_without_the_monitor_nothing_is_denied(world):
    """Its hooks go with it. Nothing is released then either, and agents older than the next monitor get nothing."""
    another = world.folder / "another"
    another.write_bytes(world.agent.read_bytes())
    another.chmod(0o755)
    monitor = subprocess.Popen(
        [sys.executable, "-c", MONITOR, str(another)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert monitor.stdout.readline() == b"ready\n"
    victim = world.start(another)
    assert world.tamper("attach", victim)[0] == errno.EPERM

    monitor.kill()
    monitor.communicate()

    assert world.tamper("attach", victim)[0] == "done"
