"""Codex and Gemini CLI as npm leaves them below their user's home, logged in with a made-up key."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.demo.agent import MORE, more_agents
from tests.demo.world import World
from tests.e2e.agents.client import Client, Login, made_up
from tests.e2e.agents.place import give

_CODEX = "@openai/codex"
_NATIVE = "codex-linux-x64/vendor/x86_64-unknown-linux-musl"
_CODEX_CONFIG = """# as I like it
model = "gpt-5"   # the good one
sandbox_mode = "workspace-write"

[sandbox_workspace_write]
network_access = true
"""


def codex_key() -> Login:
    """Log in as ``codex login --api-key`` does."""
    key = made_up("sk-proj-", 150)
    auth = {"auth_mode": "apikey", "OPENAI_API_KEY": key}
    files = {".codex/auth.json": json.dumps(auth, indent=2), ".codex/config.toml": _CODEX_CONFIG}
    return Login(files, {"API key": key}, {"authorization": f"Bearer {key}"})


def gemini_key() -> Login:
    """Put the key where Gemini's documentation says."""
    key = made_up("AIza", 35)
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "ui": {"theme": "Default"}}
    files = {".gemini/.env": f"# mine\nGEMINI_API_KEY={key}\n", ".gemini/settings.json": json.dumps(settings, indent=2)}
    return Login(files, {"API key": key}, {"x-goog-api-key": key})


def _npm_codex(world: World) -> Path:
    scope = world.home / ".npm-global/lib/node_modules/@openai"
    source = more_agents() / "node_modules/@openai"
    shutil.copytree(source / "codex", scope / "codex", symlinks=True)
    platform = scope / "codex/node_modules/@openai" / _NATIVE
    shutil.copytree(source / _NATIVE, platform, symlinks=True, ignore=shutil.ignore_patterns("voice"))
    shutil.copy(source / "codex-linux-x64/package.json", platform.parents[1])
    return _linked(world, "codex", scope / "codex/bin/codex.js")


def _npm_gemini(world: World) -> Path:
    package = world.home / ".npm-global/lib/node_modules/@google/gemini-cli"
    shutil.copytree(more_agents() / "node_modules/@google/gemini-cli", package, symlinks=True)
    return _linked(world, "gemini", package / "bundle/gemini.js")


def _linked(world: World, name: str, script: Path) -> Path:
    link = world.home / ".npm-global/bin" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(script, link.parent))
    script.chmod(0o755)
    give(world, world.home / ".npm-global")
    return link


class Codex(Client):
    """See Client."""

    name = "codex"
    title = "Codex CLI"
    version = MORE[_CODEX]
    decoy = ".codex/auth.json"
    layouts: Mapping[str, Callable[[World], Path]] = {"npm": _npm_codex, "npm, Node 24": _npm_codex}
    ways: Mapping[str, Callable[[], Login]] = {"API key": codex_key}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "exec", "--skip-git-repo-check", prompt)

    def environment(self, layout: str) -> Mapping[str, str]:
        """See Client."""
        node = f"{more_agents()}/node_modules/node/bin:" if "24" in layout else ""
        return {"PATH": f"{node}/usr/bin:/bin"}

    def directly(self, url: str) -> Mapping[str, str]:  # noqa: ARG002 - its settings say it
        """See Client."""
        return {}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return target.endswith("/responses")

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1/responses", "Authorization", f"Bearer {phantom}"


class Gemini(Client):
    """See Client."""

    name = "gemini"
    title = "Gemini CLI"
    version = MORE["@google/gemini-cli"]
    decoy = ".gemini/oauth_creds.json"
    layouts: Mapping[str, Callable[[World], Path]] = {"npm": _npm_gemini}
    ways: Mapping[str, Callable[[], Login]] = {"API key": gemini_key}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "--skip-trust", "--approval-mode", "yolo", "-p", prompt)

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        return {"GOOGLE_GEMINI_BASE_URL": url}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return "enerateContent" in target

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1beta/models/m:generateContent", "x-goog-api-key", phantom


CLIENTS: Mapping[str, Client] = {"codex": Codex(), "gemini": Gemini()}
