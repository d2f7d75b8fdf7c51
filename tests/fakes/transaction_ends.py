"""The two legal ends of an enrolment that was stopped, and what must hold half-way; and the worlds they are asked of.

In both of the legal ends each secret is in exactly one place: in the user's files as they were, or in the vault;
never in clear in a file of root's.
"""

import tempfile
from pathlib import Path

import pytest

from agent_broker.errors import AgentBrokerError
from agent_broker.identity.distribution import Distribution
from tests.fakes.enroll_cases import CASES
from tests.fakes.forked_process import forker
from tests.fakes.small_disk import small_disk
from tests.fakes.transaction_world import ManagedWorld, ToolWorld, TransactionWorld

MANAGED = "claude, managed settings"
EVERY_CASE = (*CASES, MANAGED)
UNLIKE_CASES = tuple(each for each in EVERY_CASE if each == MANAGED or not CASES[each].like)
"""Those that differ in more than their files."""
TOOLS = tuple(each for each in CASES if CASES[each].wiring)
_DISK_BYTES = 1 << 27


@pytest.fixture(scope="module")
def disk():
    """Power loss is not what is asked here, and a disk in memory has no queue; test_enroll_crash uses a real one."""
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder), _DISK_BYTES) as made:
        made.chmod(0o755)
        yield made


@pytest.fixture(scope="module")
def warm():
    with forker() as made:
        yield made


@pytest.fixture(scope="module")
def packages():
    """The machine's packages, which are the same for each plan: to read what all of them list takes half a second."""
    return Distribution()


@pytest.fixture
def new_world(disk, warm, packages, monkeypatch):
    """Return a function that makes the world of a case; its processes that act as the user are forked."""
    warm.replace_starting(monkeypatch)
    monkeypatch.setattr("agent_broker.enroll.tool_plan.Distribution", lambda: packages)

    def made(case, disks=()):
        if case == MANAGED:
            return ManagedWorld(disks, at=disk)
        kind = ToolWorld if CASES[case].wiring else TransactionWorld
        return kind(CASES[case], disks, at=disk)

    return made


def count(new_world, case, *done):
    """Return the names of the steps of the last of the works, after the others."""
    world = new_world(case)
    try:
        for work in done[:-1]:
            getattr(world, work)()
        return world.steps(getattr(world, done[-1]))
    finally:
        world.close()


def assert_not_enrolled(world, where, sealed=()):
    """The home to the byte, and nothing anywhere else."""
    assert world.snapshot() == world.before, where
    assert world.store.vault.list() == (), where
    assert world.left_over() <= {"vault/vault.sqlite3", "vault/vault.sqlite3-wal"}, where
    assert all(places and all(name.startswith("home: ") for name in places) for places in world.places().values())
    raw = world.store.raw()
    assert [piece for piece in sealed if piece in raw] == [], where


def assert_enrolled(world, where):
    """Each secret in the vault, and nowhere else; the agent wired."""
    assert all(places == {"vault"} for places in world.places().values()), where
    assert world.wired(), where
    assert world.journal_state() == "enrolled", where
    assert len(world.registered()) == 1, where
    assert [name for name in world.snapshot() if "agent-broker-" in name] == [], where
    assert {name.split("/")[0] for name in world.left_over()} == {"vault", *world.KEPT_IN}, where
    assert len(world.left_over()) == len(world.KEPT_IN) + 2, where


def assert_legal(world, where, sealed=()):
    """One of the two; return whether it is enrolled."""
    if world.registered():
        assert_enrolled(world, where)
        return True
    assert_not_enrolled(world, where, sealed)
    return False


def assert_nothing_is_lost(world, where):
    """Half-way: each secret is somewhere, and only where nobody else can read it."""
    for places in world.places().values():
        assert places, where
        assert not any(name.startswith("state: ") for name in places), where


def assert_no_secret_in(error, world):
    if error is not None:
        assert isinstance(error, AgentBrokerError)
        assert error.next_step
        assert not any(secret.decode() in error.explain() for secret in world.secrets)
