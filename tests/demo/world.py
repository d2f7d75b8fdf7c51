"""Everything the demo makes, in one private folder, and the order in which it is taken away again."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.demo.agent import Agent, find_agent
from tests.demo.check import StepFailedError, eventually, require
from tests.demo.claude_home import Keys, make_home, new_keys
from tests.demo.machine import (
    MARK,
    enter_private_network,
    free_privileged_port,
    mount_kernel_folders,
    processes_of,
    run_tool,
    throw_away_user,
)
from tests.demo.processes import BROKER, REPOSITORY, Background, broker_command, ended
from tests.demo.provider import Provider
from tests.demo.snapshot import Snapshot

SCANNER = "project/tools/scanner"
_SHIM = REPOSITORY / "broker/agent_broker/shim/agent-broker-shim"
_READY_S = 90


class World:
    """See the module. Made by ``private_world``; the steps fill in what they find out."""

    def __init__(self, folder: Path, user: pwd.struct_passwd, account: pwd.struct_passwd, agent: Agent) -> None:
        self.root = folder
        self.home = folder / "home"
        self.loot = folder / "loot"
        self.shim = folder / "bin/agent-broker-shim"
        self.user = user
        self.account = account
        """Whom the broker becomes."""
        self.agent = agent
        self.mounted: list[str] = []
        self.keys: Keys = new_keys()
        self.port = 0
        self.provider: Provider
        self.monitor: Background
        self.daemon: Background
        self.programs: list[Background] = []
        self.phantom = ""
        self.start: Callable[[str], Background]
        """Starts a daemon, once more if it was stopped; in the end it is stopped."""
        self.before: Snapshot = {}
        """The home just before enrolment, after the agent's first run."""
        self.settings_text = ""

    @property
    def environment(self) -> dict[str, str]:
        """A clean environment of the user."""
        return {
            "HOME": str(self.home),
            "USER": self.user.pw_name,
            "PATH": f"{self.home}/.local/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "AGENT_BROKER_ROOT": str(self.root),
        }

    def start_as_user(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a program as the user, in their project, in a session of its own."""
        try:
            return subprocess.Popen(
                command,
                cwd=self.home / "project",
                env={**self.environment, **environment},
                user=self.user.pw_uid,
                group=self.user.pw_gid,
                extra_groups=[],
                umask=0o022,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise StepFailedError(f"{self.user.pw_name} to be able to start {command[0]}", error) from error

    def start_agent(self, prompt: str, **environment: str) -> subprocess.Popen[str]:
        """Type ``claude -p PROMPT`` as the user."""
        command = (str(self.home / ".local/bin/claude"), "-p", prompt, "--allowedTools", "Bash")
        return self.start_as_user(*command, **environment)

    def user_processes(self) -> list[int]:
        """Return everything that runs as the user: the agent and all its descendants."""
        return processes_of(self.user.pw_uid)

    def add(self, program: Background) -> Background:
        """Count a program among those whose log is shown when a step fails."""
        self.programs.append(program)
        return program


@contextlib.contextmanager
def private_world(wanted_agent: str, provider: str = "tests.fakes.mock_provider") -> Iterator[World]:
    """Make the world; in the end nothing of it is left on the machine, whatever happened.

    Args:
        wanted_agent: see find_agent.
        provider: the module of ``tests/fakes`` that plays the provider.
    """
    with contextlib.ExitStack() as undo:
        agent = find_agent(wanted_agent, undo.enter_context(_folder()))
        folder = undo.enter_context(_folder())
        user = undo.enter_context(throw_away_user("ab-demo", folder / "home", system=False))
        account = undo.enter_context(throw_away_user("ab-broker", folder, system=True))
        world = World(folder, user, account, agent)
        world.mounted = mount_kernel_folders()
        enter_private_network()
        _furnish(world)
        world.provider = Provider(folder / "provider", provider)
        undo.enter_context(ended(world.add(world.provider.process)))
        world.provider.wait()
        world.port = free_privileged_port()
        _configure(world)
        with _daemons(world), _undisturbed():
            yield world


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A root-owned folder that others may enter, below /tmp since socket paths must be short."""
    path = Path(tempfile.mkdtemp(prefix=f"ab-demo-{MARK}", dir="/tmp"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What comes after is done in full, even if people press Ctrl-C twice."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _furnish(world: World) -> None:
    """The user's home, their agent, the intruder's program and folder; the shim where a package would put it."""
    make_home(world.home, world.user, world.keys)
    command = world.home / ".local/bin/claude"
    command.parent.mkdir(parents=True)
    command.symlink_to(world.agent.program.resolve())
    scanner = world.home / SCANNER
    scanner.parent.mkdir()
    run_tool("cc", "-O2", "-Wall", "-Wextra", "-o", str(scanner), str(Path(__file__).with_name("scanner.c")))
    world.loot.mkdir()
    for path in (*(world.home / ".local").rglob("*"), world.home / ".local", scanner.parent, scanner, world.loot):
        os.chown(path, world.user.pw_uid, world.user.pw_gid, follow_symlinks=False)
    world.shim.parent.mkdir()
    shutil.copyfile(_SHIM, world.shim)
    world.shim.chmod(0o755)
    (world.root / "provider").mkdir(mode=0o700)
    (world.root / "logs").mkdir(mode=0o700)


def _configure(world: World) -> None:
    """Write what an operator writes: every provider is the one of this world."""
    url = world.provider.base_url
    file = world.root / "etc/agent-broker/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        f'[daemon]\nuser = "{world.account.pw_name}"\ngroup = "{world.account.pw_name}"\n\n'
        f"[inject]\nport = {world.port}\n\n"
        "[incidents]\nper_family = 1000\n\n"
        f'[upstream.anthropic]\nbase_url = "{url}"\noauth_token_url = "{url}/v1/oauth/token"\n\n'
        f'[upstream.openai]\nbase_url = "{url}"\nchatgpt_base_url = "{url}"\noauth_token_url = "{url}/oauth/token"\n\n'
        f'[upstream.gemini]\nbase_url = "{url}"\ncode_assist_base_url = "{url}"\noauth_token_url = "{url}/token"\n\n'
        f'[upstream.vertex]\nbase_url = "{url}"\noauth_token_url = "{url}/token"\n\n'
        f'[upstream.bedrock]\nbase_url = "{url}"\n'
    )


@contextlib.contextmanager
def _daemons(world: World) -> Iterator[None]:
    """Start both daemons; in the end they are told to stop, the broker first, and must do so by themselves."""
    codes: dict[str, int] = {}
    with contextlib.ExitStack() as undo:
        world.start = lambda name: _start(world, name, undo, codes)
        start_monitor(world)
        start_broker(world)
        yield
    require(not any(codes.values()), "both daemons to end well when told to", f"exit codes {codes}")


def start_monitor(world: World) -> None:
    """Start the monitor; return when it answers."""
    world.monitor = world.start("monitor")
    _wait_for_monitor(world)


def start_broker(world: World) -> None:
    """Start the broker; return when all is well."""
    world.daemon = world.start("daemon")
    wait_until_healthy(world)


def _start(world: World, name: str, undo: contextlib.ExitStack, codes: dict[str, int]) -> Background:
    command = [str(BROKER), "--root", str(world.root), name]
    log = world.root / f"logs/{name}-{len(world.programs)}.log"
    program = world.add(Background(name, command, log, os.environ))
    undo.callback(lambda: codes.update({f"{name} {program.pid}": program.stop()}))
    return program


def _wait_for_monitor(world: World) -> None:
    path = world.root / "run/agent-broker/monitor.sock"

    def connects() -> bool:
        world.monitor.require_alive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.connect(str(path))
        return True

    eventually(connects, f"{path} to be served", within_s=_READY_S, seen=world.monitor.said)


def wait_until_healthy(world: World) -> None:
    """Return when the broker finds all well."""
    said = ""

    def healthy() -> bool:
        nonlocal said
        world.daemon.require_alive()
        try:
            said = broker_command(world.root, "doctor", "--json")
        except StepFailedError as error:
            said = error.seen
            return False
        return bool(json.loads(said)["healthy"])

    eventually(healthy, "agent-broker doctor to find all well", within_s=_READY_S, seen=lambda: said)
