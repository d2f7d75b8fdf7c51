"""The place of these tests: the demo's world with the real Claude Code enrolled, and what is seen after each turn."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pwd import struct_passwd

import msgspec
from msgspec import Struct

from agent_broker.cli import run_others
from tests.demo.agent import REAL
from tests.demo.check import eventually, require
from tests.demo.claude_home import SETTINGS
from tests.demo.processes import BROKER, broker_command, killed
from tests.demo.world import World, private_world
from tests.fakes.nameserver import no_names

TURN_S = 90
REPLAY = """
import http.client, json, socket, sys
port, path, token = int(sys.argv[1]), sys.argv[2], sys.stdin.readline().strip()
for way in ("tcp", "unix"):
    try:
        if way == "tcp":
            end = socket.create_connection(("127.0.0.1", port), timeout=20)
        else:
            end = socket.socket(socket.AF_UNIX)
            end.settimeout(20)
            end.connect(path)
        client = http.client.HTTPConnection("api")
        client.sock = end
        client.request("POST", "/v1/messages", json.dumps({"model": "m"}), {"Authorization": "Bearer " + token})
        print(way, client.getresponse().status)
    except OSError as error:
        print(way, "unreachable", error.errno)
"""
"""Uses a phantom as the process that it is: on loopback and on the broker's socket."""
RUN = """
import os, sys
from pathlib import Path
from agent_broker.cli import run, run_others
from agent_broker.cli.main import main
run.SHIM, run_others.WAYS, uid = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
os.umask(0o022)
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
sys.exit(main(["run", *sys.argv[4:]]))
"""
"""``agent-broker run`` as a user, who may not be able to enter the checkout: all is imported before."""


class Person(Struct):
    """A user with a home; the world's own, or another."""

    account: struct_passwd
    home: Path
    keys: dict[str, str]


class Seen(Struct):
    """What came of one turn."""

    code: int
    said: str
    keys: list[str]
    """Whose secrets the provider got with the requests to the model, by name."""
    used: list[str]
    """Credentials that the journal says were used."""
    refused: list[str]
    """Rules by which it says that something was refused."""
    why: list[str]
    """What it says of each."""
    alerts: list[str]
    """Kinds of the new alerts."""
    targets: list[str]
    """Where the provider was asked, each once."""


class Stage:
    """See the module. Made by ``stage``."""

    def __init__(self, world: World, ways: Path) -> None:
        self.world = world
        self.ways = ways
        """Gemini's ways, where a package would put them."""
        self.person = Person(world.user, world.home, world.keys.named())
        self.socket = world.root / "run/agent-broker/inject.sock"
        self.program = world.root / "bin/claude"
        """Installed for everybody."""
        self.program.symlink_to(world.agent.program.resolve())
        self.keys: dict[str, str] = world.keys.named()
        """Every real key on the machine, by name."""
        self._seen = {"audit": 0, "requests": 0, "alerts": 0}

    def enroll(self, person: Person, *options: str) -> str:
        """Enroll a person's Claude; return the phantom in the settings."""
        whose = ("--user", person.account.pw_name, "--home", str(person.home), "--binary", str(self.program))
        broker_command(self.world.root, "enroll", "claude", *whose, "--yes", *options)
        return self.phantom_of(person)

    def phantom_of(self, person: Person) -> str:
        """Return the phantom in a person's settings."""
        return str(json.loads((person.home / SETTINGS).read_text())["env"]["ANTHROPIC_AUTH_TOKEN"])

    def turn(self, *command: str | Path, person: Person | None = None, folder: Path | None = None, **env: str) -> Seen:
        """Run a command that is a turn of the agent, or does something in its place; return what came of it."""
        process = self.start(*command, person=person, folder=folder, **env)
        return self.finish(process)

    def finish(self, process: "subprocess.Popen[str]") -> Seen:
        """Wait for what was started; return what came of it."""
        try:
            said, complained = process.communicate(timeout=TURN_S)
        except subprocess.TimeoutExpired:
            said, complained = killed(process)
            complained += f"\nwas killed after {TURN_S} s"
        return self._what_came(process.returncode, said + complained)

    def start(
        self, *command: str | Path, person: Person | None = None, folder: Path | None = None, **env: str
    ) -> "subprocess.Popen[str]":
        """Start a command as a person."""
        who = person or self.person
        return subprocess.Popen(
            [str(each) for each in command],
            cwd=folder or who.home / "project",
            env=self.environment(who) | env,
            user=who.account.pw_uid, group=who.account.pw_gid, extra_groups=[], umask=0o022,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def environment(self, person: Person) -> dict[str, str]:
        """Return a clean environment of a person."""
        return self.world.environment | {"HOME": str(person.home), "USER": person.account.pw_name}

    def claude(self, person: Person | None = None, folder: Path | None = None, **env: str) -> Seen:
        """Type ``claude -p work``."""
        return self.turn(self.program, "-p", "work", "--allowedTools", "Bash", person=person, folder=folder, **env)

    def run_claude(self, *options: str, folder: Path | None = None) -> Seen:
        """Type ``agent-broker run claude -p work``."""
        return self.run(*options, str(self.program), "-p", "work", folder=folder)

    def run(self, *words: str, folder: Path | None = None, **env: str) -> Seen:
        """Type ``agent-broker run`` with these words after it."""
        words = (str(self.world.shim), str(self.ways), str(self.person.account.pw_uid), *words)
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            cwd=folder or self.person.home / "project", env=self.environment(self.person) | env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        return self.finish(process)

    def replay(self, phantom: str, person: Person | None = None) -> Seen:
        """Use a phantom as a program that is not the agent."""
        who = person or self.person
        process = subprocess.Popen(
            ["/usr/bin/python3", "-c", REPLAY, str(self.world.port), str(self.socket)],
            user=who.account.pw_uid, group=who.account.pw_gid, extra_groups=[], cwd="/", env={},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        said, complained = process.communicate(phantom + "\n", timeout=TURN_S)
        return self._what_came(process.returncode, said + complained)

    def thaw(self) -> None:
        """Lift what was frozen, so that one attack is not stopped by the one before."""
        if json.loads(broker_command(self.world.root, "freeze", "--list", "--json")):
            broker_command(self.world.root, "thaw", "--all")

    def _what_came(self, code: int, said: str) -> Seen:
        audit = [entry["body"] | {"kind": entry["kind"]} for entry in self._new("audit")]
        refused = [each for each in audit if each["kind"] == "refusal" and each["count"] == 1]
        requests = [each for each in self._new("requests") if asks_model(each["target"])]
        tokens = [" ".join(each["auth"].values()) for each in requests]
        seen = Seen(
            code=code,
            said=said[-800:],
            keys=[name for token in tokens for name, key in self.keys.items() if key in token],
            used=[each["credential"] for each in audit if each["kind"] == "use"],
            refused=[each["rule"] for each in refused],
            why=[each["why"] for each in refused],
            alerts=[],
            targets=list(dict.fromkeys(each["target"].partition("?")[0] for each in requests)),
        )
        require(all(key not in said for key in self.keys.values()), "no key to be printed", "a key")
        if any(rule not in {"policy", "account"} for rule in seen.refused):
            eventually(lambda: seen.alerts.extend(self._alerts()) or seen.alerts, "the alert", within_s=60)
        else:
            seen.alerts.extend(self._alerts())
        return seen

    def _alerts(self) -> list[str]:
        lines = broker_command(self.world.root, "alerts", "--all", "--limit", "1000", "--json").splitlines()
        known = self._seen["alerts"]
        self._seen["alerts"] = len(lines)
        return [json.loads(line)["kind"] for line in lines[known:]]

    def _new(self, what: str) -> list[dict]:
        files = {"audit": "var/lib/agent-broker/audit/audit.log", "requests": "provider/requests.jsonl"}
        path = self.world.root / files[what]
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        known = self._seen[what]
        self._seen[what] = len(lines)
        return [json.loads(line) for line in lines[known:]]


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Make the place; in the end nothing of it is left."""
    # Gemini takes settings of root's only from where nobody else can write: not below /tmp
    ways = tempfile.TemporaryDirectory(prefix="ab-ways-", dir="/run")
    with private_world(REAL, "tests.fakes.model_apis") as world, no_names(), ways as folder:
        Path(folder).chmod(0o755)
        for way in run_others.WAYS.iterdir():
            shutil.copy(way, folder)
        made = Stage(world, Path(folder))
        made.enroll(made.person, "--as", "work")
        yield made


def asks_model(target: str) -> bool:
    """Return whether a request of any of the agents is one to the model."""
    path = target.partition("?")[0]
    return path.endswith("/responses") or path.startswith("/v1/messages") or "enerateContent" in path


def give(person: Person, *paths: Path) -> None:
    """Let files be a person's."""
    for path in paths:
        os.chown(path, person.account.pw_uid, person.account.pw_gid)


def plain(seen: Seen) -> dict[str, object]:
    """Return what came of a turn, for a report."""
    return dict(msgspec.to_builtins(seen))


def account(stage: Stage, key: str, *words: str) -> str:
    """Run ``agent-broker account``, with a key on its standard input; return what it said, also if it said no."""
    done = subprocess.run(
        [BROKER, "--root", stage.world.root, "account", *words, "--user", stage.person.account.pw_name],
        input=key, capture_output=True, text=True, check=False, env=os.environ, cwd="/",
    )  # fmt: skip
    return f"{done.returncode} {done.stdout}{done.stderr}"
