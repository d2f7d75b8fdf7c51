"""A person at a terminal who runs ``agent-broker login``: a real pseudo-terminal, a real process, a broker in memory.

``StandIn`` is the text of a program that does what a vendor's login does as far as its files go: it leaves what the
real one was seen to leave. Its source is a fixed frame around the lines of a test.
"""

import contextlib
import hashlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Self

from agent_broker.enroll.login_namespace import FIRST_UID, LAST_UID
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule, save_enrollment
from agent_broker.inject.phantom import CREDENTIAL_ATTRIBUTE, RECORD_KIND
from agent_broker.vault.record import Credential
from tests.e2e.patience import until
from tests.fakes.control import FakeBroker, ServedBroker
from tests.fakes.terminal import PATIENCE_S, SilentError, hides_what_is_typed

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "import sys; from agent_broker.cli.main import main; sys.exit(main())")
UID = 61123  # below those that the rooms take
KINDS = {"claude": "anthropic-oauth", "codex": "openai-oauth", "gemini": "google-oauth"}

READ = {"x86_64": 0, "aarch64": 63}[os.uname().machine]  # the number of the system call, asm/unistd.h

FRAME = """#!/usr/bin/python3 -I
import json, os, subprocess, sys, time
home = os.environ["HOME"]
def leave(path, content):
    os.makedirs(os.path.dirname(f"{home}/{path}"), exist_ok=True)
    with open(f"{home}/{path}", "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
def ask(text):
    print(text, flush=True)
    return sys.stdin.readline().strip()
"""
CLAUDE_FILE = ".claude/.credentials.json"
CLAUDE_LOGIN = {"accessToken": "new-access", "refreshToken": "new-refresh", "expiresAt": 4102444800000, "scopes": []}


class Terminal:
    """One run of the command in a terminal; ``text`` is what was shown so far."""

    def __init__(self, words: tuple[str, ...], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *COMMAND, *words], stdin=slave, stdout=slave, stderr=slave, cwd=REPOSITORY,
            env=environment,
        )  # fmt: skip
        self.text = ""

    def until(self, wanted: str) -> "re.Match[str]":
        """Wait until the terminal shows what matches; fail if the command ends, or nothing comes, without it."""
        while not (found := re.search(wanted, self.text)):
            if not self._read(PATIENCE_S):
                raise AssertionError(f"{wanted!r} was not shown: {self.text[-2000:]}")
        return found

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def type_hidden(self, text: str) -> None:
        """Answer a question whose answer is not shown, once that is so."""
        assert until(lambda: hides_what_is_typed(self._slave)), f"the echo stays on: {self.text[-2000:]}"
        self.type(text)

    def interrupt(self) -> None:
        """Press Ctrl-C once the command reads and no other thread is left to take the signal (gRPC's end late)."""
        assert until(self._reads), f"it doesn't read: {self.text[-2000:]}"
        self.type("\x03")

    def end(self) -> int:
        """Wait for the command's end; return its exit status. It may take as long as it likes if it says something."""
        end_s = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            if self._read(0.05):
                end_s = time.monotonic() + PATIENCE_S
            if time.monotonic() > end_s:
                raise SilentError(f"it does not end: {self.text[-2000:]}")
        while self._read(0):
            pass
        return self.process.returncode

    @property
    def is_restored(self) -> bool:
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)

    def _reads(self) -> bool:
        threads = list(Path(f"/proc/{self.process.pid}/task").iterdir())
        return len(threads) == 1 and (threads[0] / "syscall").read_text().startswith(f"{READ} ")

    def _read(self, wait_s: float) -> bool:
        if not select.select([self.master], [], [], wait_s)[0]:
            return False
        self.text += os.read(self.master, 1 << 16).decode("utf-8", "replace")
        return True


class LoginStage:
    """A root with a broker, an enrolled agent and its credential; a context manager."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="login-", dir="/run"))  # as the product: the room covers /tmp
        self.root.chmod(0o755)
        self.home = self.root / "home"  # closed to everybody but the user
        self.home.mkdir(mode=0o700)
        os.chown(self.home, UID, UID)
        self.world = FakeBroker()
        self.broker = ServedBroker(self.world, self.root)
        self.terminals: list[Terminal] = []

    def __enter__(self) -> Self:
        self.broker.__enter__()
        (self.root / "run/agent-broker").chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self.terminals:
            terminal.close()
        self.broker.__exit__()
        shutil.rmtree(self.root)

    def stand_in(self, *lines: str, agent: str = "claude") -> Path:
        """Enroll a program of the user's that does what the lines say when it is started."""
        path = self.home / agent
        path.write_text(FRAME + "\n".join(lines) + "\n")
        path.chmod(0o700)
        os.chown(path, UID, UID)
        self.enroll(agent, EnrolledBinary(str(path), sha256_of(path), path.stat().st_size))
        return path

    def enroll(self, agent: str, binary: EnrolledBinary, argv0: str = "") -> Enrollment:
        key = f"{agent}/{UID}/oauth"
        role = RoleRule(argv0_names=(argv0 or agent,))
        folder = self.root / "var/lib/agent-broker/registry/agents"
        folder.mkdir(parents=True, exist_ok=True)
        enrollment = Enrollment(agent, UID, "me", (binary,), role, (), (key,), 0)
        save_enrollment(folder, enrollment)
        self.hold(key, KINDS[agent], b'{"old": "login"}')
        return enrollment

    def hold(self, key: str, kind: str, secret: bytes) -> None:
        """Put the agent's credential, and the phantom that stands for it, into the vault."""
        agent = key.partition("/")[0]
        self.world.vault[key] = Credential(key, kind, agent, UID, 1, 1, 1, {"note": "kept"}), secret
        phantom = f"{agent}/{UID}/phantom"
        attributes = {CREDENTIAL_ATTRIBUTE: key}
        self.world.vault[phantom] = Credential(phantom, RECORD_KIND, agent, UID, 1, 1, 1, attributes), b"p"

    def held(self, agent: str = "claude") -> tuple[str, int, dict[str, str], bytes]:
        """Return kind, version, attributes and value of the agent's credential."""
        credential, secret = self.world.vault[f"{agent}/{UID}/oauth"]
        return credential.kind, credential.version, credential.attributes, secret

    def run(self, *words: str, agent: str = "claude") -> Terminal:
        """Begin ``login`` in a terminal."""
        return self.command("login", agent, "--user", str(UID), *words)

    def command(self, *words: str) -> Terminal:
        """Begin a command in a terminal."""
        environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "AGENT_BROKER_ROOT": str(self.root)}
        self.terminals.append(Terminal(words, environment))
        return self.terminals[-1]

    def in_room(self) -> list[int]:
        """Return the agent's processes, by the folder that they work in."""
        pids = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                is_room = entry.name.isdecimal() and FIRST_UID <= entry.stat().st_uid <= LAST_UID
                if is_room and (entry / "cwd").readlink().is_relative_to(self.root):
                    pids.append(int(entry.name))
        return pids

    def piped(self, *words: str, given: str = "", agent: str = "claude") -> "subprocess.CompletedProcess[str]":
        """Run ``login`` without a terminal."""
        return subprocess.run(
            [*COMMAND, "--root", str(self.root), "login", agent, "--user", str(UID), *words],
            input=given, capture_output=True, text=True, check=False, cwd=REPOSITORY,
        )  # fmt: skip


def gone(pid: int) -> bool:
    """Wait until a process has ended, be it that nobody reaps it; False if it goes on."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def as_user(*command: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a command as the person whose agent logs in."""
    who = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
    return subprocess.run([*who, *command], capture_output=True, check=False, cwd="/")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
