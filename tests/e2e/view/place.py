"""The world of the view's scenarios: a user with npm's settings, a registry on loopback, both daemons."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.clients.world import Clients, Said, clients
from tests.fakes.npm_registry import NpmRegistry, running_npm_registry

NPM = Path(shutil.which("npm") or "/usr/bin/npm")


class Place:
    """See the module. Made by ``place``."""

    def __init__(self, made: Clients, registry: NpmRegistry) -> None:
        self.clients = made
        self.registry = registry
        self.home = made.home
        self.path = made.home / ".npmrc"
        self.text = (
            "; my settings\n"
            f"registry=http://127.0.0.1:{registry.port}/\n"
            f"//127.0.0.1:{registry.port}/:_authToken={registry.token}\n"
            "fund=false\nupdate-notifier=false"
        )
        made.write(".npmrc", self.text)
        os.utime(self.path, ns=(1_700_000_000_123_456_789, 1_700_000_001_123_456_789))
        self.before = self.facts()

    @property
    def whose(self) -> tuple[str, ...]:
        """The options that name the user."""
        return ("--user", self.clients.world.user.pw_name, "--home", str(self.home))

    def enroll(self, *readers: str | Path) -> str:
        """Make ~/.npmrc a view."""
        options = [word for each in readers for word in ("--for", str(each))]
        return self.clients.broker("enroll", "--file", str(self.path), *options, *self.whose, "--yes")

    def unenroll(self) -> str:
        """Put it back."""
        return self.clients.broker("unenroll", "--file", str(self.path), *self.whose, "--yes")

    def run(self, who: str, command: str, **environment: str) -> Said:
        """See Clients.run."""
        return self.clients.run(who, command, **environment)

    def shown(self, who: str, command: str, **environment: str) -> str:
        """Return which content a command printed: ``real``, ``decoy``, or what it said."""
        said = self.run(who, command, **environment)
        if self.registry.token in said.text:
            return "real"
        return "decoy" if "_authToken=npm_" in said.text and "; my settings" in said.text else said.text.strip()[-200:]

    def facts(self) -> tuple[str, int, int, int]:
        """Return digest, mode, size and time of modification of the file as it is on the disk."""
        facts = self.path.lstat()
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return digest, facts.st_mode, facts.st_size, facts.st_mtime_ns

    def holds_secret(self) -> list[str]:
        """Return the user's plain files that hold the token."""
        token = self.registry.token.encode()
        found = [path for path in self.home.rglob("*") if not path.is_symlink() and path.is_file()]
        return [str(path.relative_to(self.home)) for path in found if token in path.read_bytes()]

    def alert_texts(self) -> list[str]:
        """Return what all alerts say."""
        return [str(each["what"]) for each in self.clients.alerts()]


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make the place; in the end nothing of it is left."""
    with clients() as made, running_npm_registry(f"npm_{secrets.token_hex(18)}") as registry:
        yield Place(made, registry)
