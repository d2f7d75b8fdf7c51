"""What ``enroll`` and ``unenroll`` share: who is asked, where they work, and how they show that they do."""

import functools
import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from agent_broker.cli.terminal import console, printable
from agent_broker.clock import SystemClock
from agent_broker.config.accounts import user_id
from agent_broker.config.layout import Layout
from agent_broker.enroll import gh
from agent_broker.enroll.aws import AwsRecipe
from agent_broker.enroll.azure import AzureRecipe
from agent_broker.enroll.cargo import CargoRecipe
from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.codex import CodexRecipe
from agent_broker.enroll.data_recipe import DataRecipe
from agent_broker.enroll.docker import DockerRecipe
from agent_broker.enroll.gcp import GcpRecipe
from agent_broker.enroll.gemini import GeminiRecipe
from agent_broker.enroll.git import GitRecipe
from agent_broker.enroll.keyring import KeyringRecipe
from agent_broker.enroll.kubectl import KubectlRecipe
from agent_broker.enroll.pnpm import PnpmRecipe
from agent_broker.enroll.ports import Site
from agent_broker.enroll.recipe import Recipe
from agent_broker.enroll.recipe_store import RecipeStore
from agent_broker.enroll.ssh import SshRecipe
from agent_broker.enroll.ssh_survey import Passphrases
from agent_broker.enroll.tool_plan import ToolRecipe
from agent_broker.errors import MisuseError, RefusedError
from agent_broker.identity.planted import load_planted
from agent_broker.ids import AgentName, Uid
from agent_broker.inject.kinds import CLOUDS, KINDS, NO_PROVIDER
from agent_broker.inject.oauth_servers import is_oauth
from agent_broker.transport.control_client import ControlClient

RECIPES: dict[str, Callable[[], Recipe]] = {
    "claude": ClaudeRecipe,
    "codex": CodexRecipe,
    "gemini": GeminiRecipe,
}


TOOLS: dict[str, Callable[[Path], ToolRecipe]] = {
    "git": GitRecipe,
    "docker": DockerRecipe,
    "keyring": KeyringRecipe,
    "aws": AwsRecipe,
    "azure": AzureRecipe,
    "kubectl": KubectlRecipe,
    "gcp": lambda _shim: GcpRecipe(),
    "cargo": CargoRecipe,
    "pnpm": PnpmRecipe,
}
"""Recipes of tools; each takes the shim that the tool is wired to."""

SSH = "ssh"
"""A tool that asks itself, at a socket of its own kind: it takes no shim."""

SHIM = Path(__file__).resolve().parents[1] / "shim/agent-broker-shim"


def tool_recipe(tool: str, layout: Layout, shim: Path) -> ToolRecipe | None:
    """Return the recipe of a tool; None: it is none."""
    if tool == SSH:
        return SshRecipe(layout.sign_socket, asked_passphrases())
    return TOOLS[tool](shim) if tool in TOOLS else None


@functools.cache
def asked_passphrases() -> Passphrases:
    """Return who asks for passphrases; one for the whole command: a plan that is made again asks for nothing again."""
    return Passphrases(_ask_passphrase if sys.stdin.isatty() else None)


def _ask_passphrase(path: str) -> bytes | None:
    """Ask on the terminal; the answer is not shown, not even where it is typed before the question is read."""
    try:
        told = getpass.getpass(f"Passphrase of {printable(path)} (empty: leave it): ", stream=sys.stderr)
    except EOFError:
        return None
    return told.encode() or None


def store_of(layout: Layout) -> RecipeStore:
    """Return the recipes that are data."""
    own = {name: kind for name, kind in KINDS.items() if not is_oauth(name) and kind.provider not in CLOUDS}
    kinds = {name: kind.provider == NO_PROVIDER for name, kind in own.items()}
    return RecipeStore(layout.recipes_folder, kinds)


def recipe_of(agent: str, layout: Layout) -> Recipe:
    """Return the recipe of an agent: built in, shipped as data, or added by root; never two of one name.

    Raises:
        MisuseError: there is none, or the added one can't be understood.
        IntegrityError: others than root could have written it.
    """
    require_known(agent, layout)
    if agent in RECIPES:
        return RECIPES[agent]()
    store = store_of(layout)
    data = store.shipped().get(agent) or store.added(agent)
    if data is None:
        raise MisuseError(f"the recipe of {printable(agent)} is gone", next_step="agent-broker agent list")
    return DataRecipe(data)


def require_known(agent: str, layout: Layout) -> AgentName:
    """Return the name of an agent that has a recipe, even if that is broken by now.

    Raises:
        MisuseError: it has none.
    """
    agents, tools = known_agents(layout), ", ".join((*TOOLS, SSH, gh.TOOL))
    if agent == gh.TOOL:
        raise MisuseError("gh is enrolled by itself", next_step=f"name no other beside it: {gh.TOOL}")
    if agent not in {*agents, *TOOLS, SSH}:
        raise MisuseError(
            f"{printable(agent)} can't be enrolled; known agents: {', '.join(map(printable, agents))}; tools: {tools}",
            next_step="add a recipe of it: agent-broker agent add FILE",
        )
    return AgentName(agent)


def known_agents(layout: Layout) -> tuple[str, ...]:
    """Return the names of all agents that can be enrolled."""
    store = store_of(layout)
    return tuple(dict.fromkeys((*RECIPES, *store.shipped(), *store.added_names())))


def user_of(option: str) -> str:
    """Return whose agent is meant: the option, or who called sudo.

    Raises:
        MisuseError: neither says.
    """
    user = option or os.environ.get("SUDO_USER", "")
    if not user:
        raise MisuseError("it is not clear whose agent is meant", next_step="name the user with --user")
    return user


def uid_of(user: str) -> Uid:
    """Return the id of a user who is given by name or by number.

    Raises:
        MisuseError: there is none.
    """
    return user_id(int(user) if user.isascii() and user.isdecimal() else user)


def require_root() -> None:
    """Raise RefusedError for anybody else, before work is done that would turn out to be in vain."""
    if os.geteuid() != 0:
        raise RefusedError("root", "this changes files of the system and of the user", next_step="run it with sudo")


def require_answer(*, json: bool, given: bool, how: str = "--yes") -> None:
    """Require that what prints JSON need not ask.

    Raises:
        MisuseError: it would have to; ``how`` says which options keep it from that.
    """
    if json and not given:
        raise MisuseError("--json asks nothing", next_step=f"add {how}")


def confirm(question: str, *, yes: bool) -> None:
    """Return if a person agreed, or ``yes``.

    Raises:
        MisuseError: there is nobody to ask.
        typer.Exit: the person said no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise MisuseError("nobody can be asked: the input is not a terminal", next_step="--yes goes ahead unasked")
    if not typer.confirm(question, err=True):
        sys.stderr.write("nothing was changed\n")
        raise typer.Exit(1)


def site_of(layout: Layout, client: ControlClient, on_step: Callable[[str], None]) -> Site:
    """Return where and with what a transaction works."""
    return Site(
        store=client,
        watch=client,
        journal_dir=layout.enroll_folder,
        registry_dir=layout.registry_folder,
        policy_dir=layout.policy_folder,
        clock=SystemClock(),
        on_step=on_step,
        planted=load_planted(layout.decoys_folder),
        tools_dir=layout.tools_folder,
    )


@contextmanager
def showing_steps(what: str) -> Iterator[Callable[[str], None]]:
    """Give a function that shows the step under way, on a terminal; elsewhere it shows nothing."""
    out = console(to_stderr=True)
    if not out.is_terminal:
        yield lambda _: None
        return
    with out.status(what) as status:
        yield lambda step: status.update(f"{what}: {printable(step)}")


class HashProgress:
    """A bar on stderr for each executable that is hashed; a context manager. Called as enroll.binaries.Progress."""

    def __init__(self) -> None:
        columns = (TextColumn("hashing"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        out = console(to_stderr=True)
        self._progress = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, path: str, done_bytes: int, total_bytes: int) -> None:
        """Show how far the hash of a file is."""
        if path not in self._tasks:
            self._tasks[path] = self._progress.add_task(path, total=total_bytes)
        self._progress.update(self._tasks[path], completed=done_bytes)
