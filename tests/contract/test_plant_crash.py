"""A kill at any step of planting, removing and renewing a decoy: nothing of the user's is lost (needs root)."""

import os

import pytest

from agent_broker.errors import MisuseError, UnavailableError
from tests.fakes.plant_world import PlantWorld

PATH = ".config/npm/conf"
MINE = "registry=https://r.example/  ; mine\n//r.example/:_authToken=npm_mine"
PLANT_STEPS = ("journal: planting", "staged", "swapped", "written", "registered", "reloaded", "journal: planted")
MADE_STEPS = (PLANT_STEPS[0], "made .config", "made .config/npm", *PLANT_STEPS[1:])
REMOVE_STEPS = (
    "journal: removing",
    "unregistered",
    "unwatched",
    "restored",
    "removed folders",
    "journal: gone",
)
REFRESH_STEPS = (*REMOVE_STEPS[:-1], *PLANT_STEPS)


@pytest.fixture
def world():
    world = PlantWorld()
    yield world
    world.close()


@pytest.fixture
def full(world):
    world.file(PATH, MINE, mode=0o640)
    return world


def killed_at(step, work):
    """Run ``work(on_step)`` in a child that dies at ``step``."""
    child = os.fork()
    if child == 0:
        try:
            work(lambda name: os._exit(9) if name == step else None)
        finally:
            os._exit(1)  # the step never came
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def assert_as_before(world, before, folders=()):
    assert world.snapshot() == before
    assert world.folders() == list(folders)
    assert world.planted() == ()
    assert world.journals() == []


def assert_planted(world):
    assert [each.kind for each in world.planted()] == ["npm-token"]
    assert len(world.journals()) == 1
    assert not [name for name in world.snapshot() if "agent-broker" in name]
    assert (world.home / PATH).read_text().endswith(MINE)


def test_the_steps_are_these(full):
    steps = []
    full.plant("npm-token", PATH, steps.append)
    assert tuple(steps) == PLANT_STEPS
    steps.clear()
    full.refresh(steps.append)
    assert tuple(steps) == REFRESH_STEPS
    steps.clear()
    full.remove(PATH, steps.append)
    assert tuple(steps) == REMOVE_STEPS
    (full.home / PATH).unlink()
    (full.home / ".config/npm").rmdir()
    (full.home / ".config").rmdir()
    steps.clear()
    full.plant("npm-token", PATH, steps.append)
    assert tuple(steps) == MADE_STEPS


@pytest.mark.parametrize("step", PLANT_STEPS)
def test_planting_is_killed(full, step):
    before, folders = full.snapshot(), full.folders()
    killed_at(step, lambda on_step: full.plant("npm-token", PATH, on_step))
    assert MINE.encode() in b"".join(facts.data for facts in full.snapshot().values())
    full.recover()
    if PLANT_STEPS.index(step) >= PLANT_STEPS.index("registered"):
        assert_planted(full)
        full.remove(PATH)
    assert_as_before(full, before, folders)
    assert full.recover() == ()


@pytest.mark.parametrize("step", MADE_STEPS)
def test_planting_a_new_file_is_killed(world, step):
    killed_at(step, lambda on_step: world.plant("npm-token", PATH, on_step))
    world.recover()
    if MADE_STEPS.index(step) >= MADE_STEPS.index("registered"):
        world.remove(PATH)
    assert_as_before(world, {})


@pytest.mark.parametrize("step", REMOVE_STEPS)
def test_removing_is_killed(full, step):
    before, folders = full.snapshot(), full.folders()
    full.plant("npm-token", PATH)
    killed_at(step, lambda on_step: full.remove(PATH, on_step))
    full.recover()
    assert_as_before(full, before, folders)


@pytest.mark.parametrize("step", REFRESH_STEPS)
def test_renewing_is_killed(full, step):
    before, folders = full.snapshot(), full.folders()
    full.plant("npm-token", PATH)
    killed_at(step, full.refresh)
    assert len(full.journals()) == 1  # there is always something that recover finds
    full.recover()
    if full.planted():
        assert_planted(full)
        full.remove(PATH)
    assert_as_before(full, before, folders)


@pytest.mark.parametrize("step", REMOVE_STEPS)
def test_recovery_is_killed_too(full, step):
    before, folders = full.snapshot(), full.folders()
    killed_at("swapped", lambda on_step: full.plant("npm-token", PATH, on_step))
    killed_at(step, full.recover)
    full.recover()
    assert_as_before(full, before, folders)


@pytest.mark.parametrize("step", PLANT_STEPS)
def test_an_error_at_any_step_undoes_everything_at_once(full, step):
    before, folders = full.snapshot(), full.folders()

    def fail(name):
        if name == step:
            raise OSError(28, "No space left on device", "/somewhere")

    with pytest.raises(UnavailableError, match="No space left"):
        full.plant("npm-token", PATH, fail)
    assert_as_before(full, before, folders)


def test_half_way_a_new_planting_says_what_to_do(full):
    killed_at("staged", lambda on_step: full.plant("npm-token", PATH, on_step))
    with pytest.raises(MisuseError) as caught:
        full.plant("npm-token", PATH)
    assert "decoy recover" in caught.value.explain()


def test_a_version_written_at_the_last_moment_comes_back(full):
    """Killed right after the exchange, before it was seen that another version than the planned one came out."""
    killed_at("swapped", lambda on_step: full.plant("npm-token", PATH, on_step))
    (temporary,) = (full.home / PATH).parent.glob(".conf.agent-broker-*")
    full.make(temporary, "newer=1\n")
    full.recover()
    assert (full.home / PATH).read_text() == "newer=1\n"
    assert full.planted() == ()


def test_without_a_broker_nothing_stays_planted(full):
    before, folders = full.snapshot(), full.folders()
    full.watch.alive = False
    with pytest.raises(UnavailableError):
        full.plant("npm-token", PATH)
    assert_as_before(full, before, folders)
