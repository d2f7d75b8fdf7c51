"""Killed at every step of every recipe: recovery ends in one of two states (needs root).

The steps are counted while the test runs, so none can be added past it. The processes are real and killed with
SIGKILL, the vault is the real one. What the legal ends are, transaction_ends says.
"""

import pytest

from tests.fakes import forked_process
from tests.fakes.transaction_ends import (
    EVERY_CASE,
    MANAGED,
    UNLIKE_CASES,
    assert_enrolled,
    assert_legal,
    assert_not_enrolled,
    assert_nothing_is_lost,
    count,
    disk,  # noqa: F401 - a fixture
    new_world,  # noqa: F401 - a fixture
    packages,  # noqa: F401 - a fixture
    warm,  # noqa: F401 - a fixture
)

every_case = pytest.mark.parametrize("case", EVERY_CASE)
unlike_cases = pytest.mark.parametrize("case", UNLIKE_CASES)

# Each state of the journal, and from between exchange and deletion. What is enrolled once it is recovered: the last.
INTERRUPTED = {
    "enroll": ("journal: sealing", "journal: rewriting", "swapped", "registered"),
    "unenroll": ("journal: restoring", "journal: emptying"),
}


@every_case
def test_each_secret_of_a_case_is_in_its_files(new_world, case):  # noqa: F811
    world = new_world(case)
    try:
        assert_not_enrolled(world, case)
        assert bool(world.secrets) == (case != MANAGED)
        world.enroll()
        assert_enrolled(world, case)
    finally:
        world.close()


@every_case
def test_enroll_is_killed(new_world, case):  # noqa: F811
    ends = set()
    for number, where in enumerate(count(new_world, case, "enroll")):
        world = new_world(case)
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


@every_case
def test_unenroll_is_killed(new_world, case):  # noqa: F811
    for number, where in enumerate(count(new_world, case, "enroll", "unenroll")):
        world = new_world(case)
        try:
            world.enroll()
            sealed = world.store.sealed()
            world.killed_at(world.unenroll, number)
            assert_nothing_is_lost(world, where)
            world.recover()
            assert_not_enrolled(world, where, sealed)
        finally:
            world.close()


@unlike_cases
@pytest.mark.parametrize("work", ["enroll", "unenroll"])
def test_root_is_killed_between_the_steps(new_world, case, work):  # noqa: F811
    """Before each change that it makes itself: a journal, a policy, a registry entry half-way to its place."""
    number, came = 0, True
    while came:
        world = new_world(case)
        try:
            if work == "unenroll":
                world.enroll()
            came = world.killed_between(getattr(world, work), number)
            assert_nothing_is_lost(world, number)
            world.recover()
            enrolled = assert_legal(world, number)
            assert came or enrolled == (work == "enroll")
        finally:
            world.close()
        number += 1
    assert number > 5


def interrupted(new_world, case, work, number):  # noqa: F811
    world = new_world(case)
    if work == "unenroll":
        world.enroll()
    world.killed_at(getattr(world, work), number)
    return world


@unlike_cases
@pytest.mark.parametrize("work", INTERRUPTED)
def test_recovery_is_killed(new_world, case, work):  # noqa: F811
    names = count(new_world, case, *(["enroll"] if work == "unenroll" else []), work)
    for after in INTERRUPTED[work]:
        numbers = [place for place, name in enumerate(names) if name.startswith(after)]
        assert numbers or (case, after) == (MANAGED, "registered")
        for number in numbers[-1:]:
            kill_the_recovery(new_world, case, work, number, ends_enrolled=after == "registered")


def kill_the_recovery(new_world, case, work, number, *, ends_enrolled):  # noqa: F811
    world = interrupted(new_world, case, work, number)
    again = world.steps(world.recover)
    world.close()
    assert again
    for second, where in enumerate(again):
        world = interrupted(new_world, case, work, number)
        try:
            world.killed_at(world.recover, second)
            assert_nothing_is_lost(world, where)
            world.recover()
            assert assert_legal(world, where) == ends_enrolled
        finally:
            world.close()


@unlike_cases
@pytest.mark.parametrize("work", ["enroll", "unenroll"])
def test_the_process_that_acts_as_the_user_is_killed(new_world, case, work):  # noqa: F811
    before = ["enroll"] if work == "unenroll" else []
    for number, where in enumerate(count(new_world, case, *before, work)):
        world = new_world(case)
        steps = []
        try:
            for each in before:
                getattr(world, each)()

            def kill(name, steps=steps, number=number):
                steps.append(name)
                if len(steps) == number + 1:
                    forked_process.kill_all()

            world.attempt(getattr(world, work), kill)
            assert_nothing_is_lost(world, where)
            world.recover()
            assert_legal(world, where)
        finally:
            world.close()
