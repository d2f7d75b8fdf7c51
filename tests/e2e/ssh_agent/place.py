"""The world of the SSH scenarios: a user with keys and settings of ssh, two sshds on loopback, both daemons."""

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.demo.check import require
from tests.demo.machine import run_tool
from tests.e2e.clients.world import Clients, Said, clients
from tests.fakes.sshd import Sshd, running_sshd

CONFIG = "# my hosts\nHost good bad\n  HostName 127.0.0.1\n  User root\n\n# the end"
"""No end of the last line; ports are told on the command line."""
_RELOAD = """import sys, pathlib
from agent_broker.transport.control_client import ControlClient
with ControlClient(pathlib.Path(sys.argv[1])) as client:
    client.reload()
"""


class Place:
    """See the module. Made by ``place``."""

    def __init__(self, made: Clients, good: Sshd, bad: Sshd) -> None:
        self.clients = made
        self.good = good
        self.bad = bad
        self.home = made.home
        self.socket = made.world.root / "run/agent-broker/ssh.sock"
        self.folder = made.home / ".ssh"
        _furnish(self)
        self.before = self.files()
        self.line = (self.folder / "id_ed25519.pub").read_text().strip()
        self.secrets = [_private_line(self.folder / name) for name in ("id_ed25519", "work.pem")]
        for server in (good, bad):
            server.authorize(self.line, (self.folder / "work.pem.pub").read_text().strip())

    def ssh(self, server: Sshd, *options: str, command: str = "echo IN", program: str = "ssh") -> str:
        """Return the command line of a login."""
        name = "good" if server is self.good else "bad"
        return " ".join((program, "-o BatchMode=yes", f"-p {server.port}", *options, name, f"'{command}'"))

    def run(self, who: str, command: str, **environment: str) -> Said:
        """See Clients.run."""
        return self.clients.run(who, command, **environment)

    def allow(self, rules: str) -> None:
        """Put rules in force beside those that enrolment wrote."""
        policy = self.clients.world.root / "etc/agent-broker/policy.d/ssh-of-the-test.toml"
        policy.write_text(rules.replace("UID", str(self.clients.uid)))
        run_tool(sys.executable, "-c", _RELOAD, str(self.clients.world.root / "run/agent-broker/admin.sock"))

    def files(self) -> dict[str, tuple[str, int, int]]:
        """Return digest, mode and modification time of each file of ~/.ssh."""
        found = {}
        for path in sorted(self.folder.iterdir()):
            facts = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[path.name] = (digest, facts.st_mode & 0o7777, facts.st_mtime_ns)
        return found

    def holds_secret(self) -> list[str]:
        """Return the user's files that hold a line of a private key."""
        return [
            str(path.relative_to(self.home))
            for path in self.home.rglob("*")
            if path.is_file() and any(secret in path.read_bytes() for secret in self.secrets)
        ]

    @property
    def whose(self) -> tuple[str, ...]:
        """The options that name the user."""
        return ("--user", self.clients.world.user.pw_name, "--home", str(self.home))


def _furnish(made: Place) -> None:
    folder = made.folder
    folder.mkdir(mode=0o700)
    _keygen("-t", "ed25519", "-C", "me@laptop", "-f", folder / "id_ed25519")
    _keygen("-t", "rsa", "-b", "2048", "-m", "PEM", "-C", "work", "-f", folder / "work.pem")
    (folder / "config").write_text(CONFIG)
    lines = []
    for server, name in ((made.good, "good"), (made.bad, "bad")):
        key = server.host_key.with_suffix(".pub").read_text().strip()
        lines += [f"[127.0.0.1]:{server.port} {key}\n", f"{name} {key}\n"]
    (folder / "known_hosts").write_text("".join(lines))
    for path in (folder, *folder.iterdir()):
        os.chown(path, made.clients.uid, made.clients.world.user.pw_gid)


def _keygen(*options: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-N", "", *options], check=True)


def _private_line(path: Path) -> bytes:
    line = path.read_bytes().splitlines()[-3]
    require(len(line) > 20, "a line of a private key", len(line))
    return line


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make the place; in the end nothing of it is left."""
    with clients() as made, contextlib.ExitStack() as servers:
        good, bad = (servers.enter_context(running_sshd(made.world.root / name)) for name in ("good", "bad"))
        yield Place(made, good, bad)
