"""The place: the demo's world with both daemons, in which one agent after another is installed, logged in and run."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from agent_broker.cli.run_others import WAYS
from tests.demo.agent import REAL
from tests.demo.check import StepFailedError, eventually, require
from tests.demo.machine import end_processes_of, run_tool
from tests.demo.memory import Searched, search_processes
from tests.demo.processes import broker_command, killed, outcome
from tests.demo.world import World, private_world
from tests.e2e.accounts.stage import RUN
from tests.e2e.agents.client import Client, Login
from tests.e2e.attacks.alert_log import AlertLog
from tests.fakes.nameserver import no_names

PATIENCE_S = 90
_LAST_WEEK_NS = 7 * 24 * 3600 * 10**9
_PROGRAMS = Path(__file__).with_name("programs")
Request = dict[str, Any]


class Turn(Struct):
    """What a turn of an agent came to."""

    code: int
    said: str
    requests: list[Request]
    """All that the provider got meanwhile."""
    searched: Searched | None = None

    def auth(self, client: Client) -> list[dict[str, str]]:
        """Return the authentication headers of each request to the model."""
        return [each["auth"] for each in self.requests if client.asks_model(each["target"])]


class Place:
    """See the module. Made by ``place``."""

    def __init__(self, world: World, undo: contextlib.ExitStack) -> None:
        self.world = world
        self.program = Path()
        """What the user types."""
        self.layout = ""
        self._intact = ""
        """What is installed as it came; empty: nothing is."""
        self.search = ""
        """The PATH of the user, which ``sudo --preserve-env=PATH`` keeps; empty: any."""
        self.login = Login({}, {}, {})
        """Of the home as it was logged in last."""
        self.alerts: AlertLog
        self.tier = ""
        self._decoy = Path()
        self._enrolled = False
        self._undo = undo

    @property
    def installed(self) -> Path:
        """The folder below the home that every installation is in."""
        return self.world.home / self.program.relative_to(self.world.home).parts[0]

    def install(self, client: Client, layout: str) -> None:
        """Install an agent instead of the one that is there, unless it is the same."""
        wanted = f"{client.name} {layout}"
        if self._intact != wanted:
            if self.program.name:
                shutil.rmtree(self.installed)
            self._intact = ""
            self.program = client.layouts[layout](self.world)
            self._intact, self.layout = wanted, layout
            self.search = client.environment(layout).get("PATH", "")

    def log_in(self, login: Login) -> None:
        """Give the home these files and no others; the installation stays. ``@HOME@`` in a text is the home."""
        self.login = login
        for path in self.world.home.iterdir():
            if path != self.installed:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, text in {"project/README.md": "# A project\n", **login.files}.items():
            path = self.world.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = text if isinstance(text, str) else text(self.world.user.pw_name)
            path.write_text(whole.replace("@HOME@", str(self.world.home)))
            path.chmod(0o600)
            os.utime(path, ns=(time.time_ns(), time.time_ns() - _LAST_WEEK_NS - secrets.randbelow(10**9)))
        for path in self.world.home.iterdir():
            if path != self.installed:
                give(self.world, path)

    def broker(self, *words: str, told: str = "") -> str:
        """Run ``agent-broker`` as root, with this on its standard input."""
        return broker_command(self.world.root, *words, search=self.search, told=told)

    def enroll(self, client: Client) -> None:
        """Enrol as its user's administrator does."""
        whose = ("--user", self.world.user.pw_name)
        self._enrolled = True
        self.broker("enroll", client.name, *whose, "--binary", str(self.program), "--yes", *self.login.options)
        self.watch_by(self.world.home / client.decoy)

    def watch_by(self, decoy: Path) -> None:
        """Have a watched file whose alert tells that all earlier ones have come."""
        self._decoy = self.alerts.decoy = decoy

    def unenroll(self, client: Client) -> None:
        """Undo that."""
        self.broker("unenroll", client.name, "--user", self.world.user.pw_name, "--yes")
        self._enrolled = False

    def forget(self, client: Client) -> None:
        """Leave nothing enrolled and nothing running, whatever went wrong."""
        self.end_processes()
        if self._enrolled:
            with contextlib.suppress(StepFailedError):
                self.unenroll(client)
            self._enrolled = False

    def end_processes(self) -> None:
        """End all that runs as the user."""
        end_processes_of(self.world.user.pw_uid)

    def change_program(self, client: Client) -> None:
        """Have its user write another version over the agent's own code; once more, and it is as it was."""
        file = str(client.executable(self.program))
        self.run("/usr/bin/python3", "-I", self.tool("other_version.py"), file, file, "in-place")
        self.settle()

    def update(self, client: Client) -> None:
        """Have whose it is, its user or root, put another version in the agent's place, as its updater does."""
        for command in client.update(self.program, self.tool):
            (run_tool if client.is_roots else self.run)(*command)
        self._intact = ""
        self.settle()

    def settle(self) -> None:
        """Return when the monitor has taken in what was done so far: it has answered since."""
        self.broker("doctor", "--json")

    def tool(self, name: str) -> str:
        """Return one of the attackers' programs, which everybody may read."""
        return str(self.world.shim.parent / name)

    def run(self, *command: str) -> str:
        """Run a program of the user to its end; return what it printed."""
        process = self.world.start_as_user(*command)
        said = finished(process)
        require(process.returncode == 0, f"{command[0]} to succeed", said)
        return said

    def follow(self) -> None:
        """Follow the alerts, once; ``alerts.follow_again`` does when the broker was restarted."""
        log = AlertLog(self.world.root, self.world.root / "logs", self._decoy)
        self._undo.callback(log.close)
        self.alerts = log

    def answers(self, text: str = "well done", **mode: object) -> None:
        """Decide what the provider does from now on; see tests.fakes.mock_provider.Mode."""
        file = self.world.root / "provider/mode.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps({"answer": text, **self.login.provider, **mode}))
        new.replace(file)

    def requests(self) -> list[Request]:
        """Return what the provider got so far."""
        log = self.world.root / "provider/requests.jsonl"
        lines = log.read_text().rpartition("\n")[0].splitlines() if log.exists() else []
        return [json.loads(line) for line in lines]

    def start(self, client: Client, command: tuple[str, ...], **environment: str) -> "subprocess.Popen[str]":
        """Start a program of the user in the environment of their shell; in a login shell, if its files say a key."""
        if self.login.exported:
            command = ("/bin/bash", "-lc", 'exec "$0" "$@"', *command)
        return self.world.start_as_user(*command, **{**client.environment(self.layout), **environment})

    def turn(self, client: Client, *, directly: bool = False, tool: str = "", **environment: str) -> Turn:
        """Let the agent take one turn, as the user types it; ``tool``: what it is to run in it."""
        before = len(self.requests())
        url = self.world.provider.base_url
        more = client.directly(url) if directly else {}
        options = (*client.options_directly(url), *(each.replace("@URL@", url) for each in self.login.options_directly))
        command = client.running(self.program, "go on", tool) if tool else client.command(self.program, "go on")
        command += options if directly else ()
        process = self.start(client, command, **{**more, **environment})
        said = finished(process)
        return Turn(process.returncode, said, self.requests()[before:])

    def turn_by_command(self, client: Client) -> Turn:
        """Let the agent take one turn, started by ``agent-broker run`` with variables that lead astray."""
        before, user = len(self.requests()), self.world.user
        words = [str(self.world.shim), str(WAYS), str(user.pw_uid), *client.command(self.program, "go on")]
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            cwd=self.world.home / "project",
            env={**self.world.environment, **client.environment(self.layout), **client.astray},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        said = finished(process)
        return Turn(process.returncode, said, self.requests()[before:])

    def searched_turn(self, client: Client, wanted: Mapping[str, str]) -> Turn:
        """Let the agent run a tool, and search both while the tool waits for that."""
        before, searched = len(self.requests()), Searched(set())
        with self.waiting_agent(client) as live:
            search_processes(self.world.user_processes(), wanted, searched)
        return Turn(live.code, live.said, self.requests()[before:], searched)

    @contextlib.contextmanager
    def waiting_agent(self, client: Client) -> Iterator["Live"]:
        """Have an agent in the middle of its turn: its tool waits until this is left, and then it ends."""
        begun, done = (self.world.home / f"project/tool-{word}" for word in ("began", "may-end"))
        tool = f"touch {begun}; until test -e {done}; do sleep 0.05; done"
        self.answers(tool_cmd=tool)
        process = self.start(client, client.running(self.program, "run the tool", tool))
        live = Live(process)
        try:
            eventually(begun.exists, "the agent to run its tool", within_s=PATIENCE_S, seen=process.poll)
            yield live
            done.touch()
            live.said, live.code = finished(process), process.returncode
        finally:
            if process.poll() is None:
                killed(process)
            for path in (begun, done):
                path.unlink(missing_ok=True)

    def kinds_since(self, before: int) -> list[str]:
        """Return the kinds of the alerts, "info" left out, that came after so many."""
        self.alerts.settle()
        return sorted({str(each["kind"]) for each in self.alerts.incidents()[before:] if each["severity"] != "info"})


class Live:
    """An agent in the middle of its turn, and what came of it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = ""
        self.code = -1


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make the place; in the end nothing of it is left.

    Raises:
        StepFailedError: something of it can't be made here.
    """
    with private_world(REAL, "tests.fakes.cloud_apis") as world, contextlib.ExitStack() as undo:
        undo.enter_context(no_names())
        made = Place(world, undo)
        for path in world.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in _PROGRAMS.iterdir():
            shutil.copy(path, world.shim.parent)
        made.tier = str(json.loads(made.broker("doctor", "--json"))["tier"])
        made.follow()
        yield made


def finished(process: "subprocess.Popen[str]") -> str:
    """Return what a program printed, once it ended.

    Raises:
        StepFailedError: it does not.
    """
    said, complained = outcome(process, PATIENCE_S)
    return said + complained


def give(world: World, path: Path) -> None:
    """Make a file, or a folder and all below it, the user's own."""
    for each in (path, *path.rglob("*")):
        os.chown(each, world.user.pw_uid, world.user.pw_gid, follow_symlinks=False)


def require_well(turn: Turn, client: Client, sent: Mapping[str, str]) -> None:
    """Raise StepFailedError unless the agent did its work and each of its requests carried exactly this."""
    require(turn.code == 0, "the agent to end well", f"exit code {turn.code}: {turn.said[-2000:]}")
    seen = turn.auth(client)
    require(seen, "the agent to ask the model", [each["target"] for each in turn.requests])
    wrong = [sorted(each) for each in seen if each != sent]
    require(not wrong, f"every request to carry the real credential in {sorted(sent)}", f"headers {wrong}")
