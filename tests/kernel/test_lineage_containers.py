"""Origin and user across the borders of namespaces, and through changes of the user: always in the host's terms."""

import os
import shutil
from pathlib import Path

import pytest

from agent_broker.identity.evidence import Unknown
from tests.fakes.torture import Torture

pytestmark = pytest.mark.kernel

OWNER, OTHER = 1500, 1600  # no accounts are needed, and nobody else uses these numbers
SUBORDINATE = 100_000  # where a container's users begin on the host


@pytest.fixture
def torture():
    torture = Torture()
    yield torture
    torture.close()


def setuid_program(torture, name, uid):
    """A program of this user that runs as its owner, whoever executes it: a sudo without rules."""
    program = torture.folder / name
    if not program.exists():
        shutil.copy(torture.leaf, program)
    os.chown(program, uid, uid)
    program.chmod(0o4755)
    return str(program)


def inside(pid, name):
    """The user id of a process as its own user namespace knows it."""
    first, outside, _ = map(int, Path(f"/proc/{pid}/uid_map").read_text().split())
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    real = int(next(line for line in status if line.startswith("Uid:")).split()[1])
    assert Path(f"/proc/{pid}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink()
    return first + real - outside


# Namespaces.


@pytest.mark.parametrize("namespaces", ["p", "m", "n", "i", "u", "C", "pmniuC"])
async def test_root_in_other_namespaces_keeps_its_origin(torture, namespaces):
    await torture.enroll(os.getuid())
    words = ("say", "agent", "fork", "unshare", namespaces, "say", "outer", "fork", "say", "inner")
    words += ("exec", torture.leaf, "leaf", "say", "leaf")

    await torture.expect(torture.start(*words).follow("agent", "outer", "inner", "leaf"))


async def test_an_unprivileged_container_keeps_origin_and_user(torture):
    await torture.enroll(OWNER)
    words = ("say", "agent", "unshare", "Upmniu", "map", "0", str(OWNER), "fork", "say", "init")
    words += ("fork", "say", "middle", "fork-and-go", "exec", torture.leaf, "leaf", "say", "leaf")
    speakers = torture.start(*words, uid=OWNER).follow("agent", "init", "middle", "leaf")

    evidence = await torture.expect(speakers)

    assert inside(speakers[-1].pid, "user") == 0
    assert evidence.uid == speakers[-1].uid == evidence.caller.uid == OWNER
    assert evidence.principal.owner_uid == OWNER


async def test_the_real_unshare_changes_neither(torture):
    await torture.enroll(OWNER)
    words = ("say", "agent", "fork", "say", "tool", "exec", "/usr/bin/unshare", "unshare", "-Urpf", "--mount-proc")
    speakers = torture.start(*words, torture.leaf, "say", "leaf", uid=OWNER).follow("agent", "tool", "leaf")

    evidence = await torture.expect(speakers)

    assert inside(speakers[-1].pid, "pid") == 0
    assert evidence.uid == OWNER


async def test_nested_user_namespaces(torture):
    await torture.enroll(OWNER)
    words = ["say", "agent", "fork", "unshare", "U", "map", "0", str(OWNER), "say", "0"]
    for depth in range(1, 8):
        words += ["unshare", "Up", "map", str(depth), str(depth - 1), "fork", "say", str(depth)]
    family = torture.start(*words, "exec", torture.leaf, "leaf", "say", "leaf", uid=OWNER)

    evidence = await torture.expect(family.follow("agent", *map(str, range(8)), "leaf"))

    assert evidence.uid == OWNER
    assert evidence.principal.depth == 8


async def test_a_user_without_a_number_in_its_namespace_has_one_on_the_host(torture):
    await torture.enroll(OWNER)
    words = ("say", "agent", "fork", "unshare", "U", "exec", torture.leaf, "leaf", "say", "leaf")

    evidence = await torture.expect(torture.start(*words, uid=OWNER).follow("agent", "leaf"))

    assert evidence.uid == OWNER


@pytest.mark.parametrize("owner", [0, 1000])
async def test_the_owners_number_inside_a_namespace_is_not_the_owner(torture, owner):
    await torture.enroll(owner)
    words = ("unshare", "U", "map", str(owner), str(OTHER), "exec", torture.agent, "agent", "say", "agent")
    speakers = torture.start(*words, program=torture.leaf, uid=OTHER).follow("agent")

    evidence = await torture.expect(speakers, agent=None)

    assert inside(speakers[0].pid, "user") == owner
    assert evidence.uid == OTHER


async def test_a_number_inside_nested_namespaces_is_not_the_owner(torture):
    await torture.enroll(1000)
    words = ("unshare", "U", "map", "0", str(OTHER), "unshare", "U", "map", "1000", "0")
    words += ("exec", torture.agent, "agent", "say", "agent")
    speakers = torture.start(*words, program=torture.leaf, uid=OTHER).follow("agent")

    assert (await torture.expect(speakers, agent=None)).uid == OTHER


async def test_a_containers_user_1000_is_not_the_hosts(torture):
    await torture.enroll(1000)
    words = ("unshare", "U", "say", "empty", "become", "1000", "exec", torture.agent, "agent", "say", "agent")
    family = torture.start(*words, program=torture.leaf)
    Path(f"/proc/{family.hear('empty').pid}/uid_map").write_text(f"0 {SUBORDINATE} 65536")
    family.go()
    agent = family.hear("agent")

    evidence = await torture.expect([agent], agent=None)

    assert evidence.uid == agent.uid == SUBORDINATE + 1000


async def test_the_owners_agent_in_a_namespace_of_its_own_is_named_and_tainted(torture):
    """In there its user mounts what it likes, so the agent's file says little about the code that runs."""
    await torture.enroll(OWNER)
    words = ("unshare", "U", "map", "0", str(OWNER), "exec", torture.agent, "agent", "say", "agent")
    speakers = torture.start(*words, program=torture.leaf, uid=OWNER).follow("agent")

    evidence = await torture.expect(speakers)

    assert evidence.uid == OWNER
    assert "user namespace" in evidence.taints[0]


# Changes of the user.


async def test_a_setuid_program_has_the_user_who_started_it(torture):
    await torture.enroll(OWNER)
    sudo = setuid_program(torture, "sudo", 0)
    words = ("say", "agent", "fork", "exec", sudo, "sudo", "say", "sudo")
    speakers = torture.start(*words, uid=OWNER).follow("agent", "sudo")

    evidence = await torture.expect(speakers)

    assert evidence.uid == OWNER
    assert effective_uid(speakers[-1].pid) == 0


@pytest.mark.parametrize("target", [0, OTHER])
async def test_what_a_setuid_program_starts_as_somebody_else_is_not_the_owners(torture, target):
    await torture.enroll(OWNER)
    sudo = setuid_program(torture, "sudo", 0)
    words = ("say", "agent", "fork", "exec", sudo, "sudo", "become", str(target), "exec", torture.leaf, "leaf")
    speakers = torture.start(*words, "say", "leaf", uid=OWNER).follow("agent", "leaf")

    assert (await torture.expect(speakers, agent=None)).uid == target


@pytest.mark.parametrize("target", [0, OTHER])
async def test_the_agent_started_as_somebody_else_is_nobody(torture, target):
    await torture.enroll(OWNER)
    sudo = setuid_program(torture, "sudo", 0)
    words = ("say", "sudo", "become", str(target), "exec", torture.agent, "agent", "say", "agent")
    speakers = torture.start(*words, program=sudo, uid=OWNER).follow("sudo", "agent")

    assert (await torture.expect(speakers, agent=None)).uid == target


async def test_another_user_who_executes_the_owners_setuid_agent_is_not_the_owner(torture):
    setuid_program(torture, "agent", OWNER)
    await torture.enroll(OWNER)
    speakers = torture.start("say", "agent", uid=OTHER).follow("agent")

    evidence = await torture.expect(speakers, agent=None)

    assert evidence.uid == OTHER
    assert effective_uid(speakers[0].pid) == OWNER


async def test_root_that_becomes_the_owner_after_the_exec_is_not_the_owners_agent(torture):
    await torture.enroll(OWNER)
    words = ("become", str(OWNER), "say", "agent", "fork", "say", "child")
    for speaker in torture.start(*words).follow("agent", "child"):
        verdict = await torture.attest(speaker)
        assert speaker.uid == OWNER
        assert isinstance(verdict, Unknown) or (verdict.principal is None and verdict.uid == 0)


async def test_root_that_becomes_the_owner_before_the_exec_is_the_owner(torture):
    await torture.enroll(OWNER)
    words = ("become", str(OWNER), "exec", torture.agent, "agent", "say", "agent")
    speakers = torture.start(*words, program=torture.leaf).follow("agent")

    assert (await torture.expect(speakers)).principal.is_caller


def effective_uid(pid):
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("Uid:")).split()[2])
