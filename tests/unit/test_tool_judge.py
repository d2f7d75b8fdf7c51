"""Which tool a shim serves, whether what stands between is to be believed, and whether a person typed it."""

import msgspec
import pytest

from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.attest import Attestor
from agent_broker.identity.distribution import Package
from agent_broker.identity.enrolled_files import register_files
from agent_broker.identity.environment import allow, scan_strings
from agent_broker.identity.evidence import Evidence, Unchanged
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule, Serving
from agent_broker.lineage.store import Store
from tests.fakes.kernel import FakeKernel, a_file

OWNER = 1000
COMMAND = "/usr/lib/ab/shim git get"
SHIM, TOOL, SHELL, GIT, SSHD, EDITOR, CLAUDE, SSH = (a_file(number) for number in range(50, 58))
PATHS = {
    "/usr/bin/dash": SHELL,
    "/usr/bin/git": GIT,
    "/usr/sbin/sshd": SSHD,
    "/usr/bin/python3.99": EDITOR,
    "/usr/lib/git-core/git-remote-http": TOOL,
}


class Packages:
    """The distribution's database: these files, and no others; nothing is known before it was searched."""

    def __init__(self):
        self.searched = {}
        self.stamp = ()

    def known(self, path, facts):
        return (self.searched[path, facts],) if (path, facts) in self.searched else None

    def owner_of(self, path, facts):
        found = Package("debian", "12", intact=True) if PATHS.get(path) == facts else None
        self.searched[path, facts] = found
        return found


def enrolled(name, binary, file, **changes):
    entry = EnrolledBinary(binary, "a" * 64, 100)
    rule = RoleRule((binary.rpartition("/")[2],), runtimes=("loader", "git-http"))
    allowed = (allow(b"GIT_EXEC_PATH", b"/usr/lib/git-core"),)
    enrollment = Enrollment(name, OWNER, "ann", (entry,), rule, (), (), 0, allowed, **changes)
    return KnownFile(enrollment, entry, file, SHIM if changes else None)


class World:
    """A session by sshd, with a shell in it; git and Claude are enrolled."""

    def __init__(self):
        self.kernel = FakeKernel()
        self.store = Store(scan_strings, lambda pid: f"pid {pid}")
        self.kernel.sink = self.store.apply
        hashes = HashCache()
        self.packages = Packages()
        self.attestor = Attestor(
            epoch="e", tier="observe+", sensor=self.kernel, store=self.store, hashes=hashes, packages=self.packages
        )
        tool = enrolled(
            "git", "/usr/lib/git-core/git-remote-http", TOOL, serving=Serving("/usr/lib/ab/shim", (COMMAND,))
        )
        table = AgentTable((enrolled("claude", "/opt/claude", CLAUDE),), (tool,))
        register_files(self.kernel, self.attestor.agents, table)
        self.attestor.agents = table
        for file in (TOOL, CLAUDE):
            hashes._put(file, "a" * 64)
        self.sshd = self.kernel.run(self.kernel.boot(), "/usr/sbin/sshd", "sshd", file=SSHD)
        self.shell = self.run(self.sshd, "/bin/sh", "-sh", file=SHELL, uid=OWNER)

    def run(self, parent, path, *argv, **options):
        # the fake's processes have no /proc: where a file lies is told by the name that execve was given
        path = {"/bin/sh": "/usr/bin/dash"}.get(path, path)
        return self.kernel.run(parent, path, *argv, **options)

    def git(self, parent=None, **options):
        git = self.run(parent or self.shell, "/usr/bin/git", "git", "push", file=GIT)
        return self.run(git, "/usr/lib/git-core/git-remote-http", "git-remote-http", file=TOOL, **options)

    def asks(self, tool, *words, shim=SHIM):
        words = words or ("-c", COMMAND, COMMAND)
        link = self.run(tool, "/bin/sh", "sh", *words, file=SHELL)
        return self.kernel.exec(link, "/usr/lib/ab/shim", "shim", "git", "get", file=shim)

    async def look(self, process):
        return await self.attestor.attest(process.pidfd)


@pytest.fixture
def world():
    return World()


async def test_a_person_who_types_git_is_a_terminal(world):
    verdict = await world.look(world.asks(world.git()))

    assert isinstance(verdict, Evidence)
    assert (verdict.tool.tool, verdict.tool.problem, verdict.tool.no_terminal) == ("git", "", "")
    assert (verdict.principal, verdict.taints) == (None, ())


async def test_a_tool_with_a_shim_that_asks_itself_is_told_apart_and_its_start_is_looked_into(world):
    typed = (await world.look(world.git())).tool
    by_script = (await world.look(world.git(world.run(world.shell, "/bin/sh", "sh", "-c", "git", file=SHELL)))).tool

    assert (typed.is_caller, typed.no_terminal) == (True, "")
    assert "shim" in typed.problem
    assert by_script.is_caller
    assert by_script.no_terminal
    assert not (await world.look(world.asks(world.git()))).tool.is_caller


async def test_what_the_distribution_said_is_asked_again_once_packages_changed(world):
    asks = world.asks(world.git())
    await world.look(asks)
    world.packages.searched = dict.fromkeys(world.packages.searched, None)
    assert (await world.look(asks)).tool.problem == ""

    world.packages.stamp = (1,)
    assert "stands between" in (await world.look(asks)).tool.problem


async def test_it_is_unchanged_when_it_is_looked_at_again(world):
    asks = world.asks(world.git())
    first = await world.look(asks)

    assert isinstance(await world.attestor.attest(asks.pidfd, first.freshness), Unchanged)


async def test_an_agent_above_the_tool_is_the_principal(world):
    claude = world.run(world.shell, "/opt/claude", "claude", file=CLAUDE)
    verdict = await world.look(world.asks(world.git(world.run(claude, "/bin/sh", "sh", "-c", "x", file=SHELL))))

    assert verdict.principal.agent == "claude"
    assert (verdict.tool.tool, verdict.tool.problem) == ("git", "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-c", f"{COMMAND} | tee loot", "x"), "another command"),
        (("-c", "/usr/lib/ab/shim git store"), "another command"),
        (("script.sh",), "another command"),
    ],
)
async def test_a_shell_with_another_command_is_no_link(world, words, why):
    assert why in (await world.look(world.asks(world.git(), *words))).tool.problem


async def test_another_program_between_is_no_link(world):
    between = world.run(world.git(), "/home/ann/sh", "sh", "-c", COMMAND, file=a_file(99, owner_uid=OWNER))
    asks = world.kernel.exec(between, "/usr/lib/ab/shim", "shim", "git", "get", file=SHIM)

    assert "stands between" in (await world.look(asks)).tool.problem


async def test_another_program_than_the_shim_is_not_the_shim(world):
    verdict = await world.look(world.asks(world.git(), shim=a_file(98)))

    assert "not the shim" in verdict.tool.problem


async def test_the_tool_itself_does_not_ask_without_the_shim(world):
    assert "through the shim" in (await world.look(world.git())).tool.problem


async def test_a_copy_of_the_tool_is_nobody(world):
    git = world.run(world.shell, "/home/ann/git-remote-http", "git-remote-http", file=a_file(97, owner_uid=OWNER))

    assert (await world.look(world.asks(git))).tool is None


async def test_the_tool_under_another_name_is_nobody(world):
    git = world.run(world.shell, "/usr/lib/git-core/git-remote-http", "git-imap-send", file=TOOL)

    assert (await world.look(world.asks(git))).tool is None


@pytest.mark.parametrize(
    ("name", "value", "tainted"),
    [
        ("GIT_SSH_COMMAND", "x", True),
        ("GIT_CONFIG_PARAMETERS", "'a=b'", True),
        ("GIT_EXEC_PATH", "/usr/lib/git-core", False),
        ("GIT_EXEC_PATH", "/home/ann", True),
        ("GIT_DIR", ".git", False),
        ("LD_PRELOAD", "x.so", True),
    ],
)
async def test_what_the_tool_was_started_with_taints_the_way(world, name, value, tainted):
    verdict = await world.look(world.asks(world.git(env={name: value})))

    assert bool(verdict.taints) == tainted


async def test_a_tool_that_was_taken_hold_of_is_tainted(world):
    tool = world.git()
    world.kernel.taint(tool, world.shell, 1)

    assert (await world.look(world.asks(tool))).taints


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (
            lambda world: world.run(world.shell, "/home/ann/tool", "tool", file=a_file(96, owner_uid=OWNER)),
            "no program",
        ),
        (lambda world: world.run(world.shell, "/bin/sh", "sh", "-c", "git push", file=SHELL), "a command or a script"),
        (lambda world: world.run(world.shell, "/bin/sh", "sh", "push.sh", file=SHELL), "a command or a script"),
        (lambda world: world.run(world.shell, "/bin/sh", "sh", "-lc", "-push", file=SHELL), "a command or a script"),
        (lambda world: world.run(world.shell, "/usr/bin/python3.99", "python3.99", file=EDITOR), "runs whatever"),
        (lambda world: world.kernel.boot(uid=OWNER, file=SHELL), "no program"),
    ],
)
async def test_what_a_person_did_not_type_is_no_terminal(world, start, why):
    tool = (await world.look(world.asks(world.git(start(world))))).tool

    assert tool.problem == ""
    assert why in tool.no_terminal


async def test_a_session_that_the_user_opened_for_themself_is_none(world):
    """Nobody but root opens a session: a program of the user's called sshd is one more program."""
    own = world.run(world.kernel.boot(uid=OWNER), "/usr/sbin/sshd", "sshd", file=SSHD)
    shell = world.run(own, "/bin/sh", "-sh", file=SHELL)

    assert (await world.look(world.asks(world.git(shell)))).tool.no_terminal


class SshWorld(World):
    """ssh is enrolled as well: it has no shim, and asks itself."""

    def __init__(self):
        super().__init__()
        ssh = enrolled("ssh", "/usr/bin/ssh", SSH, serving=Serving(""))
        table = AgentTable(self.attestor.agents.known, (msgspec.structs.replace(ssh, shim=None),))
        register_files(self.kernel, self.attestor.agents, table)
        self.attestor.agents = table
        self.attestor.hashes._put(SSH, "a" * 64)

    def ssh(self, parent=None):
        return self.run(parent or self.shell, "/usr/bin/ssh", "ssh", "host", file=SSH)


async def test_a_tool_without_a_shim_asks_itself():
    world = SshWorld()
    verdict = await world.look(world.ssh())

    assert (verdict.tool.tool, verdict.tool.problem, verdict.tool.no_terminal) == ("ssh", "", "")


async def test_an_agents_ssh_works_for_the_agent():
    world = SshWorld()
    verdict = await world.look(world.ssh(world.git(world.run(world.shell, "/opt/claude", "claude", file=CLAUDE))))

    assert (verdict.tool.tool, verdict.tool.problem, verdict.principal.agent) == ("ssh", "", "claude")


async def test_what_a_tool_without_a_shim_starts_does_not_ask_for_it():
    """A ProxyCommand, or a child that did not execute anything yet."""
    world = SshWorld()
    ssh = world.ssh()
    command = world.run(ssh, "/bin/sh", "sh", "-c", "nc", file=SHELL)

    for child in (command, world.kernel.fork(ssh)):
        assert "in its place" in (await world.look(child)).tool.problem
