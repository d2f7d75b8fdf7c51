"""What has to be known of an agent to prove it: how it is installed, logged in, run, and led to a provider."""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from tests.demo.world import World

_PHANTOM = re.compile(rb"agent-broker-phantom-[A-Za-z0-9_-]+")


class Login(Struct, frozen=True):
    """A home that is logged in, in one way; the values are made up and open nothing anywhere."""

    files: Mapping[str, str | Callable[[str], str]]
    """Path below the home: text, or what makes it from the user's name."""
    secrets: Mapping[str, str]
    """Name: value, of everything that is to be found nowhere."""
    sent: Mapping[str, str]
    """Every authentication header of the agent's requests to the model, with the broker."""
    sent_directly: Mapping[str, str] | None = None
    """The same without the broker; None: just the same."""
    needs_its_maker: bool = False
    """Without the broker it asks a server of its maker's, whose address is fixed: it can't be run here."""
    provider: Mapping[str, object] = {}
    """What the provider has to know of it; see tests.fakes.mock_provider.Mode."""
    options: tuple[str, ...] = ()
    """What its user agrees to besides, as ``enroll`` calls it."""
    options_directly: tuple[str, ...] = ()
    """What its user adds to the agent's command to use it without the broker; ``@URL@`` is the provider's."""
    exported: Mapping[str, str] = {}
    """Variable: the file below the home that sets it; ``scan`` finds each, and a login shell starts the agent."""
    refused: str = ""
    """Not empty: it can't be enrolled, and this is in the reason."""


class Client:
    """One agent. An own one for each; the attributes are what the page shows."""

    name = ""
    """As ``agent-broker enroll`` knows it."""
    title = ""
    version = ""
    decoy = ""
    """A file below the home that is watched while it is enrolled."""
    layouts: Mapping[str, Callable[[World], Path]] = {}
    """Installs it below the user's home, as its users have it; returns what they type."""
    ways: Mapping[str, Callable[[], Login]] = {}
    more_ways: Mapping[str, Callable[[], Login]] = {}
    """Logins of which only the second table speaks."""
    astray: Mapping[str, str] = {}
    """Variables of its user's that lead it past the broker, to where nobody answers."""
    loses_output = False
    """Of a tool that ends at once it may get nothing: a tool has to stay until what it printed was read."""
    is_roots = False
    """Root has installed it and puts the next version beside it; its user can't."""
    fails_when_refused = True
    """Its exit code tells that it was not served."""
    tells_why = True
    """It shows what the broker says when it refuses."""
    hold_after = 1
    """So many events of a streamed answer of several pieces have one piece in them."""

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """Return the command of one turn without a terminal, with leave to run tools."""
        raise NotImplementedError

    def running(self, program: Path, prompt: str, tool: str) -> tuple[str, ...]:  # noqa: ARG002 - some are told so
        """Return the same of a turn in which it runs this tool, as the provider tells it to."""
        return self.command(program, prompt)

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """Return the same, printing what the model says piece by piece."""
        raise NotImplementedError

    def directly(self, url: str) -> Mapping[str, str]:
        """Return the environment that leads it to a provider without the broker."""
        raise NotImplementedError

    def options_directly(self, url: str) -> tuple[str, ...]:  # noqa: ARG002 - the agents' own ones need it
        """Return what is added to its command for that."""
        return ()

    def environment(self, layout: str) -> Mapping[str, str]:  # noqa: ARG002 - the agents' own ones need it
        """Return what its user's environment has for a layout."""
        return {}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """Return the environment by which a script of the user's gets into the agent."""
        raise NotImplementedError

    def asks_model(self, target: str) -> bool:
        """Return whether a request is one to the model."""
        raise NotImplementedError

    def refreshes(self, target: str) -> bool:
        """Return whether a request is one for new tokens."""
        return target.endswith("/oauth/token")

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """Return path, header and its value of a request that uses the phantom."""
        raise NotImplementedError

    def replay_as(self, login: Login, phantom: str) -> tuple[str, str, str]:  # noqa: ARG002 - the agents' own ones need it
        """Return the same, as this login uses it."""
        return self.replay(phantom)

    def executable(self, program: Path) -> Path:
        """Return the file with the agent's own code."""
        return program.resolve()

    def update(self, program: Path, tool: Callable[[str], str]) -> Iterable[tuple[str, ...]]:
        """Yield what its updater does, as commands; ``tool``: where a program of ours is."""
        old = self.executable(program)
        new = self.next_version(old)
        yield "/usr/bin/python3", "-I", tool("other_version.py"), str(old), str(new)
        if new != old:
            yield "/bin/ln", "-sfn", os.path.relpath(new, program.parent), str(program)

    def next_version(self, executable: Path) -> Path:
        """Return where its updater puts the next version."""
        return executable

    def phantom(self, home: Path) -> str:
        """Return the phantom that enrolment left in the home; empty if there is none."""
        for path in home.glob(f"{Path(self.decoy).parts[0]}/*"):
            if path.is_file() and (found := _PHANTOM.search(path.read_bytes())):
                return found[0].decode()
        return ""


def made_up(prefix: str, length: int) -> str:
    """Return a secret in the shape of a real one."""
    return f"{prefix}{secrets.token_urlsafe(length)[:length]}AA"
