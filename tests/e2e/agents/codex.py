"""Codex CLI, as npm and as its own archive leave it, with each of its logins."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.demo.agent import MORE, more_agents
from tests.demo.world import World
from tests.e2e.agents import npm
from tests.e2e.agents.client import Client, Login, made_up
from tests.e2e.agents.place import give

_PACKAGE = "@openai/codex"
_PLATFORM = "codex-linux-x64"
_VENDOR = "vendor/x86_64-unknown-linux-musl"
_VOICE = "voice"  # 100 MB that nothing here needs
_CONFIG = """# as I like it
model = "gpt-5"   # the good one
sandbox_mode = "workspace-write"

[sandbox_workspace_write]
network_access = true
"""
API_KEY = "API key, `auth.json`"


def _api_key() -> Login:
    """As ``codex login --api-key`` leaves it."""
    key = made_up("sk-proj-", 150)
    auth = {"auth_mode": "apikey", "OPENAI_API_KEY": key}
    files = {".codex/auth.json": json.dumps(auth, indent=2), ".codex/config.toml": _CONFIG}
    return Login(files, {"API key": key}, {"authorization": f"Bearer {key}"})


def _npm(world: World) -> Path:
    """A script, and the package of this platform below it."""
    source = more_agents() / "node_modules/@openai"
    package = npm.modules(world) / _PACKAGE
    shutil.copytree(source / "codex", package, symlinks=True)
    platform = package / "node_modules/@openai" / _PLATFORM
    shutil.copytree(source / _PLATFORM, platform, symlinks=True, ignore=shutil.ignore_patterns(_VOICE))
    return npm.linked(world, "codex", package / "bin/codex.js")


def _native(world: World) -> Path:
    """The unpacked archive of a release, and a link to its executable."""
    place, link = world.home / ".local/lib/codex", world.home / ".local/bin/codex"
    source = more_agents() / "node_modules/@openai" / _PLATFORM / _VENDOR
    shutil.copytree(source, place, symlinks=True, ignore=shutil.ignore_patterns(_VOICE))
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(place / "bin/codex", link.parent))
    give(world, world.home / ".local")
    return link


class Codex(Client):
    """See the module."""

    name = "codex"
    title = "Codex CLI"
    version = MORE[_PACKAGE]
    decoy = ".codex/auth.json"
    layouts: Mapping[str, Callable[[World], Path]] = {"native": _native, "npm, Node 20": _npm, "npm, Node 24": _npm}
    ways: Mapping[str, Callable[[], Login]] = {API_KEY: _api_key}
    hold_after = 3  # created, item added, item done; the end of it is held back

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "exec", "--skip-git-repo-check", prompt)

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "exec", "--skip-git-repo-check", "--json", prompt)

    def directly(self, url: str) -> Mapping[str, str]:  # noqa: ARG002 - no variable says it
        """See Client."""
        return {}

    def options_directly(self, url: str) -> tuple[str, ...]:
        """See Client."""
        return ("-c", f'openai_base_url="{url}/v1"', "-c", f'chatgpt_base_url="{url}/backend-api"')

    def environment(self, layout: str) -> Mapping[str, str]:
        """See Client."""
        node = f"{more_agents()}/node_modules/node/bin:" if "Node 24" in layout else ""
        return {"PATH": f"{node}/usr/bin:/bin"}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """See Client."""
        return {"NODE_OPTIONS": f"--require {script}"}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return target.endswith("/responses")

    def executable(self, program: Path) -> Path:
        """See Client: npm's script is not the agent, but what it starts."""
        package = program.resolve().parents[1]
        return next(iter(package.glob(f"node_modules/@openai/{_PLATFORM}/{_VENDOR}/bin/codex")), program.resolve())

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1/responses", "Authorization", f"Bearer {phantom}"
