"""One attack under way: what it is given, which processes are its own, and what it got."""

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.demo.check import eventually, require
from tests.demo.machine import end_processes_of
from tests.demo.processes import killed, outcome
from tests.demo.world import World
from tests.e2e.attacks.arena import Arena
from tests.e2e.attacks.row import AGENTS, CLAUDE, Row

PATIENCE_S = 60
_SHOWN = 4000


class LiveAgent:
    """A real agent in the middle of its work: its Bash tool waits."""

    def __init__(self, process: "subprocess.Popen[str]", done: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._done = done

    def finish(self) -> str:
        """Let it go on to its end; return what it printed."""
        self._done.touch()
        said, complained = outcome(self._process, PATIENCE_S)
        return said + complained


class Trial:
    """See the module. A new one for each attack.

    Attributes:
        nonce: in each request that the attacker causes, and in no other.
        loot: the attacker's folder; whatever its programs write or print is what it got.
        pids: processes that are the attack, or that it is done to: an alert that has one in its lineage names it.
        ran: whether the attack's own code ran; without it, nothing is proven.
    """

    def __init__(self, arena: Arena, row: Row) -> None:
        self.arena = arena
        self.world: World = arena.world
        self.nonce = f"attack-{secrets.token_hex(12)}"
        self.loot = self.world.loot / row.name
        self.loot.mkdir()
        self.log = self.loot / "log"
        self.pids: set[int] = set()
        self.ran = False
        self.signed = False
        """The attack got a signature of the user's SSH key, or a tool's server was given its credential."""
        self.served = True
        """False: the agent was not served while the attack ran."""
        self.log.touch()
        for path in (self.loot, self.log):
            os.chown(path, self.world.user.pw_uid, self.world.user.pw_gid)
        self.environment = {
            **arena.settings,
            "ATTACK_LOOT": str(self.loot),
            "ATTACK_NONCE": self.nonce,
        }
        if row.agent in AGENTS and row.agent != CLAUDE:
            arena.have_more()
            self.environment["ATTACK_TOKEN"] = arena.phantoms[row.agent]
        self._before = len(arena.provider_log())
        self.answers()

    def answers(self, tool: str = "") -> None:
        """Decide what the model answers; each attack's requests are told by their nonce."""
        self.arena.answers({self.nonce: f"reply-to-{self.nonce}"}, tool)

    def start(self, *command: str | Path, **environment: str) -> "subprocess.Popen[str]":
        """Start a program of the attacker."""
        started = self.world.start_as_user(*map(str, command), **{**self.environment, **environment})
        self.pids.add(started.pid)
        return started

    def run(self, *command: str | Path, **environment: str) -> str:
        """Run a program of the attacker to its end, from a shell of its own; keep and return what it printed."""
        process = self.start("/bin/sh", "-c", '"$@"; exit $?', "sh", *command, **environment)
        try:
            said, complained = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            end_processes_of(self.world.user.pw_uid)
            said, complained = killed(process)
        self.keep(said + complained)
        return said + complained

    def run_as_root(self, *command: str) -> None:
        """Run a program that sets the attack's stage, and then becomes the attacker."""
        done = subprocess.run(
            command,
            env={**self.world.environment, **self.environment},
            cwd=self.world.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        require(done.returncode == 0, f"{command[1]} to succeed", done.stderr)
        self.keep(done.stdout)

    def python(self, name: str, *arguments: str | int | Path, **environment: str) -> str:
        """Run one of the attacks in Python."""
        return self.run("/usr/bin/python3", self.arena.program(f"{name}.py"), *map(str, arguments), **environment)

    def agent(self, *options: str, prompt: str = "work", **environment: str) -> str:
        """Run the agent for one turn, as the user types it."""
        command = (self.arena.agent, "-p", prompt, "--allowedTools", "Bash", *options)
        said = self.run(*command, **environment)
        self.ran = self.ran or bool(said.strip())
        return said

    @contextlib.contextmanager
    def live_agent(self, prompt: str = "work") -> Iterator[LiveAgent]:
        """Have an agent that works, and that waits for its Bash tool."""
        begun, done = self.loot / "tool-began", self.loot / "tool-may-end"
        self.answers(tool=f"touch {begun}; until test -e {done}; do sleep 0.05; done")
        process = self.start(self.arena.agent, "-p", prompt, "--allowedTools", "Bash")
        live = LiveAgent(process, done)
        try:
            eventually(begun.exists, "the agent to run its tool", within_s=PATIENCE_S, seen=process.poll)
            yield live
        finally:
            killed(process)

    def keep(self, text: str) -> None:
        """Count a text as something that the attacker could read."""
        with self.log.open("a") as file:
            file.write(text)

    def keep_transcripts(self) -> None:
        """Read the agent's own transcripts, as every process of the user can."""
        for path in (self.world.home / ".claude/projects").rglob("*.jsonl"):
            text = path.read_text(errors="replace")
            if self.nonce in text:
                (self.loot / "transcript").write_text(text)
                answer = f"reply-to-{self.nonce}"
                self.keep(f"in the agent's transcript: {answer if answer in text else 'no answer'}\n")

    def wait_for(self, word: str) -> None:
        """Return when the attack's log has a word."""
        eventually(lambda: word in self.got(), f"{word!r} in the attack's log", within_s=PATIENCE_S, seen=self.got)

    def got(self) -> str:
        """Return all that the attacker has."""
        return "\n".join(each.read_text(errors="replace") for each in sorted(self.loot.rglob("log")))

    def shown(self) -> str:
        """Return what the attacker has as it may be shown: without secrets and phantom."""
        text = self.got()
        for name, value in self.arena.secrets.items():
            text = text.replace(value, f"<the {name}>")
        for name, value in self.arena.phantoms.items():
            text = text.replace(value, f"<{name}'s phantom>")
        return text[-_SHOWN:]

    def used(self) -> bool:
        """Return whether the provider got a request of this attack with a real credential; or see ``signed``."""
        if self.signed:
            return True
        real = self.arena.secrets.values()
        for line in self.arena.provider_log():
            request = json.loads(line)
            auth = " ".join(request["auth"].values())
            if self.nonce in request["marks"] and any(value in auth for value in real):
                return True
        return False

    def provider_is_asked(self) -> bool:
        """Return whether the provider got a request, of whatever kind, since this attack began."""
        return len(self.arena.provider_log()) > self._before

    def require_ran(self) -> None:
        """Raise StepFailedError if the attack's own code did not run."""
        require(self.ran or "ran: " in self.got(), "the attack's own code to run", self.shown() or "nothing in its log")


def wait_until_gone(pid: int) -> None:
    """Return when a pid is free again."""
    end_s = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end_s:
        time.sleep(0.01)
