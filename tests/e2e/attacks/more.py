"""Codex and Gemini below the user's home, as npm puts them there, with the Node that they run on; both enrolled."""

import json
import os
import shutil
import sys
from pathlib import Path

from tests.demo.agent import more_agents
from tests.demo.machine import run_tool
from tests.demo.world import World

_CODEX = "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl"
_VOICE = "voice"  # 100 MB that nothing here needs
_CODEX_SETTINGS = """model_provider = "attacked"
[model_providers.attacked]
name = "attacked"
base_url = "http://127.0.0.1:{port}/v1"
wire_api = "responses"
env_key = "ATTACK_TOKEN"
request_max_retries = 0
stream_max_retries = 0
"""


class MoreAgents:
    """Where they are, and with which phantoms."""

    def __init__(self, folder: Path, told: dict[str, dict[str, str]]) -> None:
        self.codex = folder / "codex/bin/codex"
        """The native binary; what npm calls codex is a script that turns into it."""
        self.node = folder / "node"
        self.gemini = folder / "gemini-cli"
        """The package."""
        self.script = self.gemini / "bundle/gemini.js"
        self.told = told
        """Of each agent, the phantom, and the key that it stands for."""


def install_more(world: World) -> MoreAgents:
    """Install and enrol both.

    Raises:
        StepFailedError: they can't be had.
    """
    packages = more_agents() / "node_modules"
    folder = world.home / "agents"
    folder.mkdir()
    shutil.copytree(packages / _CODEX, folder / "codex", ignore=shutil.ignore_patterns(_VOICE))
    shutil.copy(packages / "node/bin/node", folder / "node")
    shutil.copytree(packages / "@google/gemini-cli", folder / "gemini-cli", symlinks=True)
    settings = world.home / ".codex/config.toml"
    settings.parent.mkdir()
    settings.write_text(_CODEX_SETTINGS.format(port=world.port))
    for path in (folder, settings.parent):
        give_to_user(world, path)
    module = ("-m", "tests.e2e.attacks.enroll_more", str(world.root), str(world.user.pw_uid), str(folder))
    return MoreAgents(folder, json.loads(run_tool(sys.executable, *module)))


def give_to_user(world: World, folder: Path) -> None:
    """Make a folder and all below it the user's own."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, world.user.pw_uid, world.user.pw_gid, follow_symlinks=False)
