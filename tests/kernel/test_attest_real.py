"""Attestation of real processes by the real kernel side: the agent here is a copy of sleep, enrolled."""

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import read_enrolled_files, register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store

pytestmark = pytest.mark.kernel


class World:
    def __init__(self, folder, owner_uid=None):
        self.agent = folder / "agent"
        self.owner_uid = os.getuid() if owner_uid is None else owner_uid
        shutil.copy(Path("/bin/sleep").resolve(), self.agent)
        self.store = Store(scan_strings, str)
        self.sensor = CoreSensor(self.store.apply)
        self.store.link_seeded()
        self.hashes = HashCache()
        self.attestor = Attestor(epoch="e1", tier="observe+", sensor=self.sensor, store=self.store, hashes=self.hashes)
        self.started = []

    async def enroll(self, same_bytes=None):
        data = (same_bytes or self.agent).read_bytes()
        binary = EnrolledBinary(str(self.agent), hashlib.sha256(data).hexdigest(), len(data))
        enrollment = Enrollment("agent", self.owner_uid, "me", (binary,), RoleRule(("agent",)), (), (), 0)
        table, problems = await read_enrolled_files([enrollment], self.sensor, self.hashes)
        register_files(self.sensor, self.attestor.agents, table)
        self.attestor.agents = table
        return problems

    def start(self, *argv, **options):
        options.setdefault("env", {"HOME": "/"})
        process = subprocess.Popen(argv, **options)
        self.started.append(process)
        return process

    async def attest(self, process, known=None):
        """Popen returns a moment before the exec is complete: ask until its own image is there."""
        name = Path(process.args[0]).name
        pidfd = os.pidfd_open(process.pid)
        try:
            for _ in range(1000):
                verdict = await self.attestor.attest(pidfd, known)
                if not isinstance(verdict, Evidence) or verdict.caller.filename.endswith(name):
                    break
                await asyncio.sleep(0.001)
            return verdict
        finally:
            os.close(pidfd)

    def close(self):
        for process in self.started:
            process.kill()
            process.wait()
        self.sensor.close()


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    assert await world.enroll() == ()
    yield world
    world.close()


async def test_the_enrolled_binary_is_the_agent(world):
    verdict = await world.attest(world.start(str(world.agent), "60"))

    assert verdict.principal.is_caller
    assert verdict.taints == ()


async def test_a_copy_with_the_same_bytes_elsewhere_is_nobody(world, tmp_path):
    copy = tmp_path / "copy/agent"
    copy.parent.mkdir()
    shutil.copy(world.agent, copy)

    assert (await world.attest(world.start(str(copy), "60"))).principal is None


async def test_a_hard_link_is_the_same_file_and_the_name_decides_the_role(world, tmp_path):
    link = tmp_path / "rg"
    os.link(world.agent, link)

    assert (await world.attest(world.start(str(link), "60"))).principal is None


async def test_a_link_made_after_enrolment_does_not_disable_the_agent(world, tmp_path):
    os.link(world.agent, tmp_path / "another-name")  # changes ctime and link count, not one byte

    verdict = await world.attest(world.start(str(world.agent), "60"))

    assert verdict.principal.is_caller


async def test_an_injected_environment_taints(world):
    process = world.start(str(world.agent), "60", env={"LD_LIBRARY_PATH": "/nowhere"})

    assert "LD_LIBRARY_PATH" in (await world.attest(process)).taints[0]


async def test_the_environment_at_exec_counts_not_what_is_there_later(world, tmp_path):
    """A program that clears its own environment after exec was still started with it."""
    program = tmp_path / "scrubber"
    source = tmp_path / "scrubber.c"
    source.write_text(
        "#include <string.h>\n#include <unistd.h>\nextern char **environ;\n"
        "int main(int c, char **v) { (void)c; (void)v; for (char **e = environ; *e; e++) memset(*e, 'A', strlen(*e));"
        " pause(); }\n"
    )
    subprocess.run(["cc", "-o", program, source], check=True)
    world.agent.unlink()
    shutil.move(program, world.agent)
    assert await world.enroll() == ()
    process = world.start(str(world.agent), env={"LD_BIND_NOW": "1"})
    while b"LD_BIND_NOW" in Path(f"/proc/{process.pid}/environ").read_bytes():
        await asyncio.sleep(0.001)

    assert "LD_BIND_NOW" in (await world.attest(process)).taints[0]


async def test_a_binary_that_was_replaced_is_nobody_until_it_is_enrolled_again(world):
    world.agent.unlink()
    shutil.copy("/bin/cat", world.agent)
    process = world.start(str(world.agent), stdin=subprocess.PIPE)

    assert (await world.attest(process)).principal is None
    process.stdin.close()


async def test_a_binary_that_was_written_in_place_is_nobody(world):
    data = bytearray(world.agent.read_bytes())
    data[-1] ^= 1
    world.agent.write_bytes(data)

    assert (await world.attest(world.start(str(world.agent), "60"))).principal is None


async def test_an_agent_that_is_older_than_the_monitor_is_unknown(world, tmp_path):
    process = world.start(str(world.agent), "60")
    await world.attest(process)
    world.sensor.close()
    (tmp_path / "later").mkdir()
    later = World(tmp_path / "later")
    later.agent = world.agent
    try:
        await later.enroll()
        verdict = await later.attest(process)
    finally:
        later.close()

    assert isinstance(verdict, Unknown)
    assert "restart" in verdict.next_step


async def test_unchanged_until_it_execs(world):
    shutil.copy("/bin/dash", world.agent)
    assert await world.enroll() == ()
    command = "read x; exec /bin/sleep 60"
    process = world.start(str(world.agent), "-c", command, stdin=subprocess.PIPE)
    first = await world.attest(process)
    assert isinstance(await world.attest(process, first.freshness), Unchanged)
    process.stdin.write(b"\n")
    process.stdin.close()
    pidfd = os.pidfd_open(process.pid)
    for _ in range(1000):
        verdict = await world.attestor.attest(pidfd, first.freshness)
        if isinstance(verdict, Evidence):
            break
        await asyncio.sleep(0.001)
    os.close(pidfd)

    assert verdict.caller.argv0 == "/bin/sleep"


async def test_the_one_holder_of_a_socket_is_attested(world):
    ours, theirs = socket.socketpair()
    inode = os.fstat(theirs.fileno()).st_ino
    process = world.start(str(world.agent), "60", pass_fds=(theirs.fileno(),))
    await world.attest(process)
    assert "2 processes hold" in (await world.attestor.attest_socket(inode)).reason
    theirs.close()

    verdict = await world.attestor.attest_socket(inode)

    assert verdict.principal.is_caller
    assert isinstance(await world.attestor.attest_socket(inode, verdict.freshness), Unchanged)
    ours.close()


async def test_a_holder_that_starts_tools_all_the_time_is_attested_every_time(world):
    """Each of its children holds the socket from fork to exec."""
    ours, theirs = socket.socketpair()
    inode = os.fstat(theirs.fileno()).st_ino
    code = "import subprocess\nwhile True: subprocess.run(['/bin/true'], close_fds=False)"
    fd = os.dup(theirs.fileno())
    busy = world.start(sys.executable, "-c", f"import os; os.set_inheritable({fd}, False)\n{code}", pass_fds=(fd,))
    os.close(fd)
    theirs.close()
    await world.attest(busy)

    verdicts = [await world.attestor.attest_socket(inode) for _ in range(300)]

    assert [verdict.reason for verdict in verdicts if not isinstance(verdict, Evidence)] == []
    ours.close()


async def test_a_thread_of_the_holder_is_not_a_second_holder(world):
    ours, theirs = socket.socketpair()
    inode = os.fstat(theirs.fileno()).st_ino
    loop = asyncio.get_running_loop()
    release = asyncio.Event()
    waiting = loop.run_in_executor(None, lambda: asyncio.run_coroutine_threadsafe(release.wait(), loop).result())

    verdict = await world.attestor.attest_socket(inode)

    release.set()
    await waiting
    assert isinstance(verdict, Evidence)
    assert verdict.caller.pid == os.getpid()
    ours.close()
    theirs.close()


async def test_a_dead_process_is_unknown(world):
    process = world.start("/bin/true")
    pidfd = os.pidfd_open(process.pid)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    process.wait()

    assert isinstance(await world.attestor.attest(pidfd), Unknown)
    os.close(pidfd)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
