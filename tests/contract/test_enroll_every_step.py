"""Killed, or out of room, at every step of every recipe: recovery ends in one of two states (needs root).

The steps are counted while the test runs, so none can be added past it. The processes are real and killed with
SIGKILL, the vault is the real one on the disk, the disks are really full. In both of the legal ends each secret is
in exactly one place: in the user's files as they were, or in the vault; never in clear in a file of root's.
"""

import os
import signal

import pytest

from agent_broker.errors import AgentBrokerError
from tests.fakes.acting import acting_processes
from tests.fakes.enroll_cases import CASES
from tests.fakes.transaction_world import TransactionWorld

ALL = "claude, all at once"


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return request.param


def assert_not_enrolled(world, where, sealed=()):
    """The home to the byte, and nothing anywhere else."""
    assert world.snapshot() == world.before, where
    assert world.store.vault.list() == (), where
    assert world.left_over() <= {"vault/vault.sqlite3", "vault/vault.sqlite3-wal"}, where
    assert all(places and all(name.startswith("home: ") for name in places) for places in world.places().values())
    raw = world.store.raw()
    assert [piece for piece in sealed if piece in raw] == [], where


def assert_enrolled(world, where):
    """Each secret in the vault, and nowhere else."""
    assert set(map(frozenset, world.places().values())) == {frozenset({"vault"})}, where
    assert world.journal_state() == "enrolled", where
    assert len(world.registered()) == 1, where
    assert [name for name in world.snapshot() if "agent-broker-" in name] == [], where
    assert {name.split("/")[0] for name in world.left_over()} == {"vault", "enroll", "registry", "policy.d"}, where
    assert len(world.left_over()) == 5, where


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


def count(case, *done):
    """Return the names of the steps of the last of the works, after the others."""
    world = TransactionWorld(case)
    try:
        for work in done[:-1]:
            getattr(world, work)()
        return world.steps(getattr(world, done[-1]))
    finally:
        world.close()


def test_enroll_is_killed(case):
    ends = set()
    for number, where in enumerate(count(case, "enroll")):
        world = TransactionWorld(case)
        try:
            world.killed_at(world.enroll, number)
            assert_nothing_is_lost(world, where)
            sealed = world.store.sealed()
            world.recover()
            ends.add(assert_legal(world, where, sealed))
            assert world.recover() == (), where
            assert_legal(world, where, sealed)
        finally:
            world.close()
    assert ends == {True, False}


def test_unenroll_is_killed(case):
    for number, where in enumerate(count(case, "enroll", "unenroll")):
        world = TransactionWorld(case)
        try:
            world.enroll()
            sealed = world.store.sealed()
            world.killed_at(world.unenroll, number)
            assert_nothing_is_lost(world, where)
            world.recover()
            assert_not_enrolled(world, where, sealed)
        finally:
            world.close()


def interrupted(case, number):
    world = TransactionWorld(case)
    world.killed_at(world.enroll, number)
    return world


@pytest.mark.parametrize("after", ["journal: sealing", "journal: rewriting", "swapped", "registered"])
def test_recovery_is_killed(case, after):
    """From a kill in each state of the journal, and from between exchange and deletion."""
    names = count(case, "enroll")
    number = max(place for place, name in enumerate(names) if name.startswith(after))
    world = interrupted(case, number)
    again = world.steps(world.recover)
    world.close()
    for second, where in enumerate(again):
        world = interrupted(case, number)
        try:
            world.killed_at(world.recover, second)
            assert_nothing_is_lost(world, where)
            world.recover()
            assert assert_legal(world, where) == (after == "registered")
        finally:
            world.close()


@pytest.mark.parametrize("work", ["enroll", "unenroll"])
def test_the_process_that_acts_as_the_user_is_killed(case, work):
    before = ["enroll"] if work == "unenroll" else []
    for number, where in enumerate(count(case, *before, work)):
        world = TransactionWorld(case)
        steps = []
        try:
            for each in before:
                getattr(world, each)()

            def kill(name, steps=steps, number=number):
                steps.append(name)
                if len(steps) == number + 1:
                    for pid, _ in acting_processes():
                        os.kill(pid, signal.SIGKILL)

            world.attempt(getattr(world, work), kill)
            assert_nothing_is_lost(world, where)
            world.recover()
            assert_legal(world, where)
        finally:
            world.close()


DISKS = [("home",), ("state",), ("home", "state")]


@pytest.mark.parametrize("disks", DISKS, ids="+".join)
@pytest.mark.parametrize("work", ["enroll", "unenroll", "recover"])
def test_the_disk_is_full_from_a_step_on(case, work, disks):
    first = {"enroll": [], "unenroll": ["enroll"], "recover": []}[work]
    names = count(case, "enroll") if work == "recover" else count(case, *first, work)
    middle = max(place for place, name in enumerate(names) if name.startswith("rewrote")) if work == "recover" else 0
    number, met, came = 0, 0, True
    while came:
        world = TransactionWorld(case, ("home", "state"))
        try:
            for each in first:
                getattr(world, each)()
            if work == "recover":
                world.killed_at(world.enroll, middle)
            came, error = run_out_of_room(world, getattr(world, work), number, disks)
            met += error is not None
            world.recover()
            assert_legal(world, f"{work}, step {number}")
        finally:
            world.close()
        number += 1
    assert number > 2
    assert met, "no step met the full disk"


def run_out_of_room(world, work, number, disks):
    """Do it on disks that are full from the step of this number on; say whether it came, and how it ended."""
    steps, full = [], []

    def at(name):
        steps.append(name)
        if len(steps) == number + 1:
            full.append(world.full(disks))
            full[0].__enter__()

    try:
        error = world.attempt(work, at)
        assert_no_secret_in(error, world)
    finally:
        if full:
            full[0].__exit__(None, None, None)
    return bool(full), error


def assert_no_secret_in(error, world):
    if error is not None:
        assert isinstance(error, AgentBrokerError)
        assert error.next_step
        assert not any(secret.decode() in error.explain() for secret in world.secrets)


@pytest.mark.parametrize("disk", ["home", "state"])
@pytest.mark.parametrize("work", ["enroll", "unenroll"])
def test_the_disk_has_room_for_so_much_and_no_more(work, disk):
    """From not a byte up to enough, a page at a time: every write that can fail is the first to fail once."""
    free, done = 0, False
    while not done:
        world = TransactionWorld(CASES[ALL], ("home", "state"))
        try:
            if work == "unenroll":
                world.enroll()
            with world.full((disk,), free):
                error = world.attempt(getattr(world, work))
                assert_no_secret_in(error, world)
            done = error is None
            world.recover()
            enrolled = assert_legal(world, f"{free} bytes free")
            assert not done or enrolled == (work == "enroll")
        finally:
            world.close()
        free += os.sysconf("SC_PAGESIZE")
    assert free >= 2 * os.sysconf("SC_PAGESIZE"), "no room at all was enough"
