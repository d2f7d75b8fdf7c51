"""Who passes a denied file, and who does not; what is told of it."""

import errno
import os
import shutil
import subprocess

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.kernel import wire
from agent_broker.kernel.marks import agent_number
from tests.fakes.denying import USER, Denying, build_opener, opened, start_reader
from tests.fakes.tampering import Victim

AGENT = agent_number("agent", USER)
NOT_OPEN = 100_000


@pytest.fixture(scope="module")
def world():
    world = Denying()
    world.agent = build_opener(world.folder, "agent")
    with opened(world.agent) as fd:
        facts = world.sensor.own_file(fd).file
    world.sensor.register(facts.dev, facts.ino, guard=True)
    yield world
    world.close()


@pytest.fixture
def decoy(world):
    path = world.file()
    world.mark(path, AGENT)
    world.denied()
    return path


@pytest.fixture
def answering(world):
    """The monitor lives."""
    world.marks.answer_for(os.getpid())
    yield
    world.marks.answer_for(0)


@pytest.fixture
def victim(world):
    """A process of the user that opens the decoy when it is told, and was started before it was let through."""
    process = start_reader(world.folder)
    yield Victim(process)
    process.kill()
    process.communicate()


def test_this_kernel_denies_by_itself(world):
    assert world.marks is not None
    assert world.sensor.denials.problem == ""


def test_a_program_of_the_user_is_denied_and_named(world, decoy):
    assert world.open("open", decoy) == errno.EPERM

    (event,) = world.denied()
    facts = decoy.stat()
    assert (event.operation, event.uid, event.ino) == (wire.OPERATION_OPEN, USER, facts.st_ino)
    assert (event.command, event.name) == (b"opener", os.fsencode(decoy))
    assert world.store.lineage(event.proc_id, event.exec_id).steps[0].image.filename == str(world.opener)


def test_many_files_are_denied_by_one_question(world):
    files = [world.file() for _ in range(100)]
    fds = [os.open(each, os.O_PATH) for each in files]
    try:
        *marked, refused = world.marks.mark_all([*((fd, AGENT) for fd in fds), (NOT_OPEN, AGENT)])
    finally:
        for fd in fds:
            os.close(fd)

    assert [each.ino for each in marked] == [each.stat().st_ino for each in files]
    assert isinstance(refused, UnavailableError)
    assert [world.open("open", files[at]) for at in (0, 50, 99)] == [errno.EPERM] * 3


def test_a_file_is_denied_until_its_mark_is_removed(world, decoy):
    with opened(decoy) as fd:
        world.marks.unmark(world.marks.mark(fd, 0))

    assert world.open("open", decoy) == 0


def test_root_passes(world, decoy):
    assert world.open("open", decoy, uid=0) == 0
    assert world.denied() == []


def test_root_that_descends_from_an_agent_does_not(world, decoy):
    """The agent is a program that starts another one as root: what sudo does."""
    shell = world.folder / "busybox"
    shutil.copy("/bin/busybox", shell)
    with opened(shell) as fd:
        facts = world.sensor.own_file(fd).file
    command = [shell, "sh", "-c", f"{world.opener} open {decoy}; true"]
    before = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    world.sensor.register(facts.dev, facts.ino, guard=True)
    after = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    replaced = subprocess.run(
        [shell, "sh", "-c", f"exec {world.opener} open {decoy}"], capture_output=True, text=True, check=True
    ).stdout

    assert (before, after, replaced) == ("0\n", f"{errno.EPERM}\n", f"{errno.EPERM}\n")


@pytest.mark.usefixtures("answering")
def test_an_enrolled_agents_file_passes_while_somebody_is_asked_about_it(world, decoy):
    assert world.open("open", decoy, program=world.agent) == 0
    assert world.open("open", decoy) == errno.EPERM


def test_an_enrolled_agents_file_is_denied_when_nobody_can_be_asked(world, decoy):
    assert world.open("open", decoy, program=world.agent) == errno.EPERM


@pytest.mark.usefixtures("answering")
def test_a_program_of_an_allowlist_passes_while_somebody_is_asked_about_it(world, decoy):
    tool = build_opener(world.folder, "tool")
    assert world.open("open", decoy, program=tool) == errno.EPERM
    with opened(tool) as fd:
        file = world.marks.ask_about(fd)

    assert world.open("open", decoy, program=tool) == 0

    world.marks.stop_asking_about(file)
    assert world.open("open", decoy, program=tool) == errno.EPERM


def let_through(world, victim, agent=AGENT):
    pidfd = os.pidfd_open(victim.pid)
    try:
        return world.marks.let_through(pidfd, agent)
    finally:
        os.close(pidfd)


def test_an_identified_process_passes_without_us_and_its_children_do_not(world, decoy, victim):
    assert victim.do(str(decoy)) == errno.EPERM

    assert let_through(world, victim)

    assert victim.do(str(decoy)) == 0
    assert victim.do(f"child {decoy}") == errno.EPERM


def test_an_identified_process_passes_until_its_next_exec(world, decoy, victim):
    let_through(world, victim)

    victim.become()

    assert victim.do(str(decoy)) == errno.EPERM


def test_an_identified_process_passes_for_its_own_agent_only(world, decoy, victim):
    let_through(world, victim, agent_number("another", USER))

    assert victim.do(str(decoy)) == errno.EPERM


def test_who_is_asked_about_ends_with_the_process_that_answers(world, decoy):
    other = subprocess.Popen(["/bin/sleep", "600"])
    world.marks.answer_for(other.pid)
    assert world.open("open", decoy, program=world.agent) == 0

    other.kill()
    other.wait()

    assert world.open("open", decoy, program=world.agent) == errno.EPERM
