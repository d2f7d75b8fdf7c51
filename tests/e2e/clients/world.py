"""The demo's world with both daemons and the sample agent enrolled: who asks, and how it turns out.

``Whom`` starts a command as one of those that a policy tells apart. Nothing here knows a protocol.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from agent_broker.config.layout import Layout
from agent_broker.transport.control_client import ControlClient
from tests.demo.agent import SAMPLE
from tests.demo.check import StepFailedError, eventually
from tests.demo.processes import REPOSITORY, broker_command, outcome
from tests.demo.world import World, private_world, start_broker

PATIENCE_S = 60
ALERT_S = 60
AGENT, TERMINAL, PROGRAM = "the agent's tool", "a terminal", "another program"


class Said(Struct, frozen=True):
    """What a command came to."""

    code: int
    text: str


class Clients:
    """See the module. Made by ``clients``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.home = world.home
        self.uid = world.user.pw_uid
        self.policy = world.root / "etc/agent-broker/policy.d/tools-of-the-test.toml"
        self._number = 0

    def broker(self, *words: str) -> str:
        """Run ``agent-broker`` as root."""
        return broker_command(self.world.root, *words)

    def enroll(self, tool: str, *more: str) -> str:
        """Enrol a tool of the user."""
        whose = ("--user", self.world.user.pw_name, "--home", str(self.home))
        return self.broker("enroll", tool, *whose, "--shim", str(self.world.shim), "--yes", *more)

    def unenroll(self, tool: str) -> str:
        """Undo that."""
        return self.broker("unenroll", tool, "--user", self.world.user.pw_name, "--yes")

    def allow(self, rules: str) -> None:
        """Put rules in force."""
        self.policy.write_text(rules.replace("UID", str(self.uid)))
        with ControlClient(Layout(self.world.root).admin_socket) as client:
            client.reload()

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a file of the user's, below the home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        for each in (path, *path.parents):
            if self.home not in each.parents:
                break
            os.chown(each, self.uid, self.world.user.pw_gid)
        return path

    def run(self, who: str, command: str, **environment: str) -> Said:
        """Run a shell command as one of AGENT, TERMINAL, PROGRAM."""
        if who == AGENT:
            return self._by_agent(command, environment)
        if who == TERMINAL:
            return self._typed(command, environment)
        process = self.world.start_as_user("/bin/bash", "-c", command, **environment)
        return _finished(process)

    def alerts(self) -> list[dict[str, object]]:
        """Return what the broker has stored."""
        return [json.loads(line) for line in self.broker("alerts", "--json", "--limit", "1000").splitlines()]

    def told_since(self, before: list[dict[str, object]], text: str) -> bool:
        """Return whether an alert that was not told before says this; it may be on its way."""
        seen = {(each["id"], each["count"]) for each in before}

        def is_told() -> bool:
            return any(text in str(each["what"]) for each in self.alerts() if (each["id"], each["count"]) not in seen)

        with contextlib.suppress(StepFailedError):
            eventually(is_told, f"an alert that says {text!r}", within_s=ALERT_S, seen=lambda: "")
            return True
        return False

    def kinds_since(self, before: list[str], count: int = 0) -> list[str]:
        """Return the kinds of the alerts since ``alert_kinds`` said ``before``; so many may still be on their way."""
        told: list[str] = []

        def are_told() -> bool:
            told[:] = sorted((Counter(self.alert_kinds()) - Counter(before)).elements())
            return len(told) >= count

        with contextlib.suppress(StepFailedError):
            eventually(are_told, f"{count} alerts", within_s=ALERT_S, seen=lambda: told)
        return told

    def alert_kinds(self) -> list[str]:
        """Return the kinds of all alerts so far."""
        return [str(each["kind"]) for each in self.alerts()]

    def journal(self) -> str:
        """Return the audit journal."""
        return (self.world.root / "var/lib/agent-broker/audit/audit.log").read_text()

    @contextlib.contextmanager
    def broker_down(self) -> Iterator[None]:
        """Stop the broker; in the end another one serves."""
        self.world.daemon.stop()
        try:
            yield
        finally:
            start_broker(self.world)

    @contextlib.contextmanager
    def broker_stopped(self) -> Iterator[None]:
        """Have the broker do nothing; in the end it goes on."""
        os.kill(self.world.daemon.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.world.daemon.pid, signal.SIGCONT)

    def _by_agent(self, command: str, environment: dict[str, str]) -> Said:
        self._number += 1
        told = self.home / f"told-{self._number}"
        # env is what the agent's own tool shell would set: it does not taint the agent
        settings = " ".join(f"{name}='{value}'" for name, value in environment.items())
        script = self.write(f"tool-{self._number}.sh", f"{command}\n", 0o700)
        tool = f'{settings} /bin/bash {script} > {told} 2>&1; echo "exit $?" >> {told}'
        mode = self.world.root / "provider/mode.json"
        mode.write_text(json.dumps({"answer": "well done", "tool_cmd": tool}))
        done = _finished(self.world.start_agent("please"))
        if not told.exists():
            raise StepFailedError("the agent to run its tool", done.text)
        text, _, code = told.read_text().rpartition("exit ")
        return Said(int(code), text)

    def _typed(self, command: str, environment: dict[str, str]) -> Said:
        """As on a terminal: su is what opened the session, and the shell was given nothing but what is typed."""
        process = subprocess.Popen(
            ["su", "-m", "-s", "/bin/bash", self.world.user.pw_name],
            cwd=self.home / "project",
            env={**self.world.environment, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        return _finished(process, f"{command}\n")


@contextlib.contextmanager
def clients() -> Iterator[Clients]:
    """Make the world; in the end nothing of it is left."""
    with private_world(SAMPLE) as world:
        made = Clients(world)
        whose = ("--user", world.user.pw_name, "--home", str(world.home))
        made.broker("enroll", "claude", *whose, "--binary", str(world.home / ".local/bin/claude"), "--yes")
        yield made


@contextlib.contextmanager
def server(clients: Clients, module: str, name: str, *arguments: str) -> Iterator[int]:
    """Start a server of tests/fakes in the world; give its port. It prints it as the last word of its first line."""
    command = [str(REPOSITORY / ".venv/bin/python"), "-m", f"tests.fakes.{module}", *arguments]
    log = clients.world.root / f"logs/{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        eventually(lambda: "serving on" in log.read_text(), f"{module} to serve", within_s=60, seen=log.read_text)
        yield int(log.read_text().splitlines()[0].split()[-1])
    finally:
        process.terminate()
        process.wait()


def new_password(prefix: str = "") -> str:
    """Make a password up."""
    return f"{prefix}{secrets.token_hex(16)}"


def _finished(process: "subprocess.Popen[str]", stdin: str | None = None) -> Said:
    out, err = outcome(process, PATIENCE_S, stdin)
    return Said(process.returncode, out + err)
