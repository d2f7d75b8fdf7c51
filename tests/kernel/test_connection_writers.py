"""Who wrote on a connection to the broker: the agent's kept-alive connection in other hands, by every way to get it.

The agent here is a copy of Python that is enrolled as it is, and does what the test says.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.executable import hash_open_file
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from agent_broker.identity.updated import find_updated
from tests.fakes.puppet import Puppet
from tests.kernel.test_attest_real import World

pytestmark = pytest.mark.kernel

USER = 1500
BORROW = "ctypes.CDLL(None).syscall(438, os.pidfd_open({pid}), {fd}, 0)"  # pidfd_getfd

PAIR = "globals().setdefault('pair', __import__('socket').socketpair())[0].fileno()"
SHARE_FILES = (  # clone(CLONE_FILES | SIGCHLD)
    "[p or __import__('time').sleep(600) for p in [ctypes.CDLL(None).syscall(56, 0x411, 0, 0, 0, 0)]][0]"
)
WAITS = {"__import__('select').select([s], [], [])": ("23 ", "270 "), "s.recv(1)": ("45 ",)}
"""A call that waits, and the numbers of its system call."""


class Connection:
    """A connection of the enrolled agent's to what the kernel was told is the broker."""

    def __init__(self, world, agent, inode, fd):
        self.world = world
        self.agent = agent
        self.inode = inode
        self.fd = fd

    async def used(self, before):
        """Let the agent write; return what is known of it then, if it is to be known ``before`` all else."""
        await self.agent.do("s.send(b'GET')")
        return (await self.judge()).freshness if before else None

    async def judge(self, known=None):
        return await self.world.attestor.attest_socket(self.inode, known)


class Stage(World):
    def __init__(self, folder):
        super().__init__(folder)
        shutil.copy(Path("/usr/bin/python3").resolve(), self.agent)
        self.folder = folder
        self.puppets = []
        self.listener = self.accepted = None

    async def enroll_agent(self):
        fd = os.open(self.agent, os.O_RDONLY)
        binary = EnrolledBinary(str(self.agent), hash_open_file(fd), os.fstat(fd).st_size)
        os.close(fd)
        enrollment = Enrollment("agent", USER, "me", (binary,), RoleRule(("agent",)), (), (), 0)
        self.enrollments = (enrollment,)
        table, problems = await read_enrolled_files([enrollment], self.sensor, self.hashes)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table
        assert not problems

    async def puppet(self, program="/usr/bin/python3"):
        puppet = await Puppet.start(USER, program=str(program))
        self.puppets.append(puppet)
        return puppet

    def listen(self, family):
        self.listener = socket.socket(family)
        if family == socket.AF_UNIX:
            address = str(self.folder / "inject.sock")
            self.listener.bind(address)
            Path(address).chmod(0o666)
            fd = os.open(address, os.O_PATH)
            self.attestor.senders_known = self.sensor.watch_endpoints(0, self.sensor.own_file(fd).file)
            os.close(fd)
        else:
            self.listener.bind(("127.0.0.1", 0))
            address = self.listener.getsockname()
            self.attestor.senders_known = self.sensor.watch_endpoints(address[1], None)
        self.listener.listen()
        assert self.attestor.senders_known
        return address

    async def connect(self, family=socket.AF_INET, agent=None):
        address = self.listen(family)
        agent = agent or await self.puppet(self.agent)
        made = f"globals().setdefault('s', __import__('socket').socket({int(family)}))"
        fd = await agent.do(f"{made}.fileno()")
        await agent.do(f"s.connect({address!r})")
        self.accepted, _ = self.listener.accept()
        inode = int((await agent.do(f"os.readlink('/proc/self/fd/{fd}')"))[8:-1])
        return Connection(self, agent, inode, fd)

    async def end(self):
        """Let everything go."""
        for puppet in self.puppets:
            with suppress(ProcessLookupError):  # the test ended it
                await puppet.kill()
        for each in (self.listener, self.accepted):
            if each is not None:
                each.close()
        self.close()


@pytest.fixture
async def stage():
    with tempfile.TemporaryDirectory() as folder:  # where the user can go, unlike pytest's own
        Path(folder).chmod(0o755)
        stage = Stage(Path(folder))
        await stage.enroll_agent()
        yield stage
        await stage.end()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
async def test_what_the_agent_wrote_itself_is_its_own(stage, family):
    connection = await stage.connect(family)
    await connection.agent.do("s.send(b'GET')")

    verdict = await connection.judge()

    assert isinstance(verdict, Evidence)
    assert verdict.principal.is_caller
    assert isinstance(await connection.judge(verdict.freshness), Unchanged)


async def test_a_connection_on_which_nobody_was_seen_to_write_is_nobodys(stage):
    connection = await stage.connect()

    verdict = await connection.judge()

    assert "nobody was seen to write" in verdict.reason


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("before", [True, False])
async def test_who_borrows_the_connection_and_closes_his_copy_at_once_is_noticed(stage, family, before):
    connection = await stage.connect(family)
    if before:
        await connection.agent.do("s.send(b'GET')")
        known = (await connection.judge()).freshness
    thief = await stage.puppet()
    borrowed = await thief.do(BORROW.format(pid=connection.agent.pid, fd=connection.fd))
    await thief.do(f"os.write({borrowed}, b'POST')")
    await thief.do(f"os.close({borrowed})")

    verdict = await connection.judge(known if before else None)

    assert isinstance(verdict, Unknown)
    assert "another program" in verdict.reason
    await connection.agent.do("s.send(b'GET')")
    assert "another program" in (await connection.judge()).reason  # for good


@pytest.mark.parametrize(
    "write",
    [
        "os.writev({fd}, [b'PO', b'ST'])",
        "os.sendfile({fd}, os.open('/etc/hostname', os.O_RDONLY), 0, 4)",
        "__import__('socket').socket(fileno=os.dup({fd})).sendmsg([b'POST'])",
        "[os.write(w, b'POST') and os.splice(r, {fd}, 4) for r, w in [os.pipe()]][0]",
    ],
)
async def test_every_way_to_write_counts(stage, write):
    connection = await stage.connect()
    await connection.agent.do("s.send(b'GET')")
    thief = await stage.puppet()
    borrowed = await thief.do(BORROW.format(pid=connection.agent.pid, fd=connection.fd))
    await thief.do(write.format(fd=borrowed))
    await thief.kill()

    assert "another program" in (await connection.judge()).reason


@pytest.mark.parametrize("before", [True, False])
async def test_a_copy_that_is_kept_makes_two_holders(stage, before):
    connection = await stage.connect()
    known = await connection.used(before)
    thief = await stage.puppet()
    await thief.do(BORROW.format(pid=connection.agent.pid, fd=connection.fd))

    assert "2 processes hold" in (await connection.judge(known)).reason


@pytest.mark.parametrize("before", [True, False])
async def test_a_copy_on_its_way_in_a_message_is_a_holder_that_no_table_shows(stage, before):
    connection = await stage.connect()
    known = await connection.used(before)
    await connection.agent.do(PAIR)
    await connection.agent.do("__import__('socket').send_fds(pair[0], [b'x'], [s.fileno()])")

    assert "more than its process's descriptors" in (await connection.judge(known)).reason


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("stolen", [True, False])
async def test_a_waiting_call_of_a_process_with_one_thread_hides_no_copy(stage, how, stolen):
    """Its recv() takes no reference, its select() does: one more is somebody else's."""
    connection = await stage.connect()
    await connection.used(before=False)
    if stolen:
        thief = await stage.puppet()
        borrowed = await thief.do(BORROW.format(pid=connection.agent.pid, fd=connection.fd))
        await thief.do(PAIR)
        await thief.do(f"__import__('socket').send_fds(pair[0], [b'x'], [{borrowed}]) and os.close({borrowed})")
    waiting = asyncio.ensure_future(connection.agent.do(f"len({how})"))
    while not Path(f"/proc/{connection.agent.pid}/syscall").read_text().startswith(WAITS[how]):
        await asyncio.sleep(0.01)

    verdict = await connection.judge()

    assert isinstance(verdict, Unknown if stolen else Evidence)
    assert not stolen or "more than its process's descriptors" in verdict.reason
    stage.accepted.send(b"x")
    await waiting


FORK = "[p or __import__('time').sleep(600) for p in [os.fork()]][0]"


async def another_version(stage):
    """A program in the agent's place that nobody approved, as after an update."""
    new = stage.folder / "downloaded"
    shutil.copy(stage.agent, new)
    with new.open("ab") as file:
        file.write(b"another version")
    new.replace(stage.agent)
    return await stage.puppet(stage.agent)


async def test_what_an_updated_agent_wrote_is_its_own_although_its_child_is_on_the_way_to_an_exec(stage):
    """Between fork and exec the child has the connection, and may be kept waiting longer than is looked again."""
    updated = await another_version(stage)
    connection = await stage.connect(agent=updated)
    await updated.do("s.send(b'GET')")
    child = await updated.do(FORK)

    verdict = await connection.judge()
    os.kill(child, signal.SIGKILL)

    assert "2 processes hold" in verdict.reason
    assert (verdict.writer.caller.pid, verdict.steps) == (updated.pid, verdict.writer.steps)
    assert find_updated(verdict.writer, "agent", stage.enrollments).is_caller


@pytest.mark.parametrize("does", ["holds", "writes"])
async def test_a_stranger_with_an_updated_agents_connection_leaves_it_nobodys(stage, does):
    updated = await another_version(stage)
    connection = await stage.connect(agent=updated)
    await updated.do("s.send(b'GET')")
    thief = await stage.puppet()
    borrowed = await thief.do(BORROW.format(pid=updated.pid, fd=connection.fd))
    if does == "writes":
        await thief.do(f"os.write({borrowed}, b'POST')")

    verdict = await connection.judge()

    assert "2 processes hold" in verdict.reason
    assert verdict.writer is None


async def test_a_child_that_wrote_for_an_updated_agent_leaves_the_connection_nobodys(stage):
    updated = await another_version(stage)
    connection = await stage.connect(agent=updated)
    await updated.do("s.send(b'GET')")
    child = await updated.do(FORK.replace("p or ", "p or s.send(b'POST') and "))
    sent = b""
    while b"POST" not in sent:
        sent += stage.accepted.recv(9)

    verdict = await connection.judge()
    os.kill(child, signal.SIGKILL)

    assert "2 processes hold" in verdict.reason
    assert verdict.writer is None


@pytest.mark.parametrize("before", [True, False])
async def test_a_process_that_shares_the_agents_table_of_files_is_a_holder(stage, before):
    connection = await stage.connect()
    known = await connection.used(before)
    child = await connection.agent.do(SHARE_FILES)

    verdict = await connection.judge(known)
    os.kill(child, signal.SIGKILL)

    assert "2 processes hold" in verdict.reason


async def test_descriptors_and_waiting_threads_of_the_agent_itself_are_no_other_holders(stage):
    connection = await stage.connect()
    await connection.agent.do("s.send(b'GET')")
    await connection.agent.do("os.dup(s.fileno())")
    thread = "__import__('threading').Thread(target={target}, daemon=True).start()"
    await connection.agent.do(thread.format(target="lambda: s.recv(1)"))
    poll = "lambda: __import__('select').select([s], [], [])"
    await connection.agent.do(thread.format(target=poll))
    await connection.agent.do("__import__('time').sleep(0.05)")

    assert isinstance(await connection.judge(), Evidence)


async def test_a_request_that_was_written_before_the_agent_was_executed_is_not_the_agents(stage):
    """The writer connects, writes, and executes the genuine agent over himself, with the socket open."""
    impostor = await stage.puppet()
    connection = await stage.connect(agent=impostor)
    await impostor.do("s.send(b'POST')")
    await impostor.do("s.set_inheritable(True)")
    await impostor.become([str(stage.agent), "-c", "import time; time.sleep(60)"])
    while stage.attestor.describe(impostor.pid)[0][0].image.filename != str(stage.agent):
        pass

    verdict = await connection.judge()

    assert "another program" in verdict.reason
    assert verdict.hostile


async def test_a_forked_child_that_writes_and_ends_is_noticed(stage):
    connection = await stage.connect()
    await connection.agent.do("s.send(b'GET')")
    await connection.agent.do("[p or (os.write(s.fileno(), b'POST'), os._exit(0)) for p in [os.fork()]][0]")
    await connection.agent.do("os.wait()[0]")

    assert "another program" in (await connection.judge()).reason


def test_pidfd_getfd_has_the_number_that_the_tests_use():
    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()
    copy = libc.syscall(438, os.pidfd_open(os.getpid()), write, 0)
    os.write(copy, b"x")

    assert os.read(read, 1) == b"x"
