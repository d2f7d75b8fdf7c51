"""Out of room at every step of every recipe, on disks that are really full: recovery ends in one of two states.

The steps are counted while the test runs (needs root). What the legal ends are, transaction_ends says.
"""

import os

import pytest

from tests.fakes.transaction_ends import (
    EVERY_CASE,
    TOOLS,
    assert_legal,
    assert_no_secret_in,
    count,
    disk,  # noqa: F401 - a fixture
    new_world,  # noqa: F401 - a fixture
    packages,  # noqa: F401 - a fixture
    warm,  # noqa: F401 - a fixture
)

ALL = "claude, all at once"
DISKS = [("home",), ("state",), ("home", "state")]
COMBINATIONS = [
    pytest.param(case, work, disks, id=f"{case}-{work}-{'+'.join(disks)}")
    for case in EVERY_CASE
    for work in ("enroll", "unenroll", "recover")
    for disks in DISKS
    if case not in TOOLS or (len(disks) > 1 and work != "recover")  # the transaction is the agents'
]


@pytest.mark.parametrize(("case", "work", "disks"), COMBINATIONS)
def test_the_disk_is_full_from_a_step_on(new_world, case, work, disks):  # noqa: F811
    first = {"enroll": [], "unenroll": ["enroll"], "recover": []}[work]
    names = count(new_world, case, "enroll") if work == "recover" else count(new_world, case, *first, work)
    middle = max(place for place, name in enumerate(names) if name.startswith("rewrote")) if work == "recover" else 0
    number, met, came = 0, 0, True
    while came:
        world = new_world(case, ("home", "state"))
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


@pytest.mark.parametrize("disk_name", ["home", "state"])
@pytest.mark.parametrize("work", ["enroll", "unenroll"])
def test_the_disk_has_room_for_so_much_and_no_more(new_world, work, disk_name):  # noqa: F811
    """From not a byte up to enough, a page at a time: every write that can fail is the first to fail once."""
    free, done = 0, False
    while not done:
        world = new_world(ALL, ("home", "state"))
        try:
            if work == "unenroll":
                world.enroll()
            with world.full((disk_name,), free):
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
