"""A kill at any step: nothing is lost, and recovery ends with the home as it was, or enrolled (needs root).

The kill is real: the transaction runs in a child process that ends with os._exit at the step. Only the vault's memory
is handed back first, since the vault is another process and survives.
"""

import json
import os
import pickle
import signal

import pytest

from agent_broker.errors import MisuseError, UnavailableError
from tests.fakes.acting import acting_processes
from tests.fakes.enroll_world import SECRETS, SETTINGS, EnrollWorld

FILES = (".claude/settings.json", ".claude.json", ".claude/backups/.claude.json.backup.1", ".claude/.credentials.json")
ENROLL_STEPS = (
    "journal: sealing",
    *(f"sealed original {path}" for path in FILES),
    *(f"sealed credential {name}" for name in ("api-key", "primary-api-key", "oauth")),
    "made the phantom",
    "journal: rewriting",
    *(f"{done} {path}" for path in FILES for done in ("staged", "swapped", "rewrote")),
    "verified",
    "wrote the policy",
    "registered",
    "reloaded",
    "journal: enrolled",
)
UNDO_STEPS = (
    "journal: restoring",
    "removed the policy",
    "unregistered",
    "reloaded",
    *(f"restored {path}" for path in reversed(FILES)),
    "journal: emptying",
    "emptied the vault",
    "journal: gone",
)


@pytest.fixture
def world():
    world = EnrollWorld().full()
    yield world
    world.close()


def killed_at(world, step, work, first=lambda: None):
    """Run ``work(on_step)`` in a child that dies at ``step``; take over what the vault holds then."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)

        def die(name):
            if name == step:
                first()
                with os.fdopen(writer, "wb") as pipe:
                    pickle.dump(world.store.records, pipe)
                os._exit(9)

        try:
            work(die)
        finally:
            os._exit(1)  # the step never came
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    world.store.records = pickle.loads(data)  # noqa: S301 - our own child wrote it


def assert_nothing_is_lost(world):
    in_home = world.secrets_in_home()
    assert [secret[:16] for secret in SECRETS if secret not in in_home and not world.store.holds(secret)] == []


def assert_as_before(world, before):
    assert world.snapshot() == before
    assert world.store.records == {}
    assert world.registered() == world.journals() == []
    assert list(world.site().policy_dir.glob("*")) == []


def assert_enrolled(world):
    assert world.secrets_in_home() == set()
    assert all(map(world.store.holds, SECRETS))
    assert world.registered() == ["claude-61234.json"]
    assert not [name for name in world.snapshot() if "agent-broker" in name]


def test_the_steps_are_these(world):
    """The tables above, from which the tests below are made, are complete."""
    steps = []
    world.enroll(steps.append)
    assert tuple(steps) == ENROLL_STEPS
    steps.clear()
    world.unenroll(steps.append)
    assert tuple(steps) == UNDO_STEPS


@pytest.mark.parametrize("step", ENROLL_STEPS)
def test_enroll_is_killed(world, step):
    before = world.snapshot()
    killed_at(world, step, world.enroll)
    assert_nothing_is_lost(world)
    world.recover()
    if ENROLL_STEPS.index(step) >= ENROLL_STEPS.index("registered"):
        assert_enrolled(world)
        world.unenroll()
    assert_as_before(world, before)
    assert world.recover() == ()


@pytest.mark.parametrize("step", UNDO_STEPS)
def test_unenroll_is_killed(world, step):
    before = world.snapshot()
    world.enroll()
    killed_at(world, step, world.unenroll)
    assert_nothing_is_lost(world)
    world.recover()
    assert_as_before(world, before)


@pytest.mark.parametrize("step", UNDO_STEPS)
def test_recovery_is_killed_too(world, step):
    before = world.snapshot()
    killed_at(world, "swapped .claude.json", world.enroll)
    killed_at(world, step, world.recover)
    assert_nothing_is_lost(world)
    world.recover()
    assert_as_before(world, before)


@pytest.mark.parametrize("step", ["registered", "reloaded"])
def test_an_enrolment_that_counted_is_completed(world, step):
    killed_at(world, step, world.enroll)
    (report,) = world.recover()
    assert report.summary == "enrolled"
    assert_enrolled(world)


@pytest.mark.parametrize("step", ENROLL_STEPS)
def test_an_error_at_any_step_undoes_everything_at_once(world, step):
    before = world.snapshot()

    def fail(name):
        if name == step:
            raise OSError(28, "No space left on device", "/somewhere")

    with pytest.raises(UnavailableError, match="No space left"):
        world.enroll(fail)
    assert_as_before(world, before)


def test_an_interrupt_from_the_keyboard_undoes_everything(world):
    before = world.snapshot()

    def interrupt(name):
        if name == "swapped .claude.json":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.enroll(interrupt)
    assert_as_before(world, before)


def test_half_way_a_new_enrolment_says_what_to_do(world):
    killed_at(world, "swapped .claude.json", world.enroll)
    with pytest.raises(MisuseError) as caught:
        world.enroll()
    assert "enroll --recover" in caught.value.explain()
    world.recover()
    world.enroll()


def test_unenroll_finishes_what_was_killed(world):
    before = world.snapshot()
    killed_at(world, "swapped .claude.json", world.enroll)
    world.unenroll()
    assert_as_before(world, before)


def test_a_half_written_temporary_file_is_cleared(world):
    """Power was lost while the new file was being written: its bytes are any."""
    before = world.snapshot()
    killed_at(world, "staged .claude/settings.json", world.enroll)
    (temporary,) = world.claude.glob(".settings.json.agent-broker-*")
    temporary.write_bytes(b'{"hal')
    world.recover()
    assert_as_before(world, before)


def test_a_link_in_place_of_the_temporary_file_is_not_followed(world):
    before = world.snapshot()
    target = world.root / "root-only"
    target.write_text("kept")
    killed_at(world, "swapped .claude/settings.json", world.enroll)
    (temporary,) = world.claude.glob(".settings.json.agent-broker-*")
    temporary.unlink()
    temporary.symlink_to(target)
    world.recover()
    assert_as_before(world, before)
    assert target.read_text() == "kept"


def test_a_version_written_at_the_last_moment_comes_back(world):
    """Killed right after the exchange, before it was seen that another version than the planned one came out."""
    before = SETTINGS.replace("// mine", "")
    killed_at(world, "swapped .claude/settings.json", world.enroll)
    (temporary,) = world.claude.glob(".settings.json.agent-broker-*")
    world.make(temporary, '{"newer": true}')
    world.recover()
    value = json.loads(world.settings.read_text())
    assert value == {"newer": True, "env": json.loads(before)["env"]}  # the key is not lost either
    assert world.store.records == {}


def test_recovery_waits_for_the_vault(world):
    before = world.snapshot()
    killed_at(world, "swapped .claude/.credentials.json", world.enroll)
    world.store.kill()
    with pytest.raises(UnavailableError):
        world.recover()
    assert world.journals() == ["claude-61234.json"]
    world.store.restart()
    world.recover()
    assert_as_before(world, before)


def test_no_recovery_while_the_process_that_acts_as_the_user_lives(world, tmp_path):
    """Its parent is dead, and it may have a request in its queue: two at work would undo each other."""
    before = world.snapshot()
    stopped = tmp_path / "stopped"

    def stop():
        ((acting, _),) = acting_processes()
        os.kill(acting, signal.SIGSTOP)
        stopped.write_text(str(acting))

    killed_at(world, "staged .claude/settings.json", world.enroll, first=stop)
    pid = int(stopped.read_text())
    try:
        with pytest.raises(UnavailableError, match="at work") as caught:
            world.recover()
        assert "stopped" in caught.value.next_step
    finally:
        os.kill(pid, signal.SIGCONT)  # it completes, sees that its parent is gone, and ends
    world.recover()
    assert_as_before(world, before)
