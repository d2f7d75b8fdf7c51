"""OpenCode and Aider: how each is installed, logged in, run, and led to a provider without the broker."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.demo.world import World
from tests.e2e.agents.client import Client, Login, made_up
from tests.e2e.agents.place import give
from tests.e2e.agents_generic import installed

_AUTH = ".local/share/opencode/auth.json"
_SETTINGS = ".config/opencode/opencode.json"


def _opencode_login() -> Login:
    key, unused = made_up("sk-ant-api03-", 93), made_up("sk-proj-", 120)
    logins = {"anthropic": {"type": "api", "key": key}, "openai": {"type": "api", "key": unused}}
    settings = '{\n  // mine\n  "$schema": "https://opencode.ai/config.json",\n  "autoupdate": false\n}\n'
    files = {_AUTH: json.dumps(logins, indent=2), _SETTINGS: settings}
    return Login(files, {"API key": key, "another provider's": unused}, {"x-api-key": key})


def _opencode(world: World) -> Path:
    """As its own installer does: one executable below ``~/.opencode``."""
    program = world.home / ".opencode/bin/opencode"
    program.parent.mkdir(parents=True)
    shutil.copyfile(installed.opencode(), program)
    program.chmod(0o755)
    give(world, world.home / ".opencode")
    return program


class OpenCode(Client):
    """See the module."""

    name = "opencode"
    title = "OpenCode"
    version = installed.OPENCODE
    decoy = _AUTH
    layouts: Mapping[str, Callable[[World], Path]] = {"native": _opencode}
    ways: Mapping[str, Callable[[], Login]] = {"two providers' keys in auth.json": _opencode_login}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "run", "--model", "anthropic/claude-sonnet-4-5", prompt)

    def environment(self, layout: str) -> Mapping[str, str]:  # noqa: ARG002 - the same in each
        """See Client: what the plan asks for."""
        return {"OPENCODE_DISABLE_FFF": "true", "OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER": "true"}

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        settings = {"provider": {"anthropic": {"options": {"baseURL": f"{url}/v1"}}}}
        return {"OPENCODE_CONFIG_CONTENT": json.dumps(settings)}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """See Client."""
        return {"BUN_OPTIONS": f"--preload={script}"}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return target.startswith("/v1/messages")

    def phantom(self, home: Path) -> str:
        """See Client."""
        return str(json.loads((home / _AUTH).read_text())["anthropic"]["key"])

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1/messages", "x-api-key", phantom


def _aider_login() -> Login:
    key = made_up("sk-proj-", 120)
    text = f"# my keys\nexport OPENAI_API_KEY='{key}'  # work\nEDITOR=vim\nDATABASE_URL=$OTHER"
    return Login({".env": text}, {"API key": key}, {"authorization": f"Bearer {key}"})


def _aider(world: World) -> Path:
    """As root installs it for all users; the user's PATH has a link to it."""
    link = world.home / ".local/bin/aider"
    link.parent.mkdir(parents=True)
    link.symlink_to(installed.aider())
    give(world, world.home / ".local")
    return link


class Aider(Client):
    """See the module."""

    name = "aider"
    title = "Aider"
    version = installed.AIDER
    decoy = ".env"
    layouts: Mapping[str, Callable[[World], Path]] = {"venv": _aider}
    ways: Mapping[str, Callable[[], Login]] = {"OPENAI_API_KEY in ~/.env": _aider_login}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        words = "--no-git --no-stream --yes-always --no-check-update --no-show-model-warnings --no-analytics"
        more = "--no-show-release-notes --no-pretty --no-gitignore"
        return (str(program), "--model", "gpt-4o", *words.split(), *more.split(), "--message", prompt)

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        return {"OPENAI_API_BASE": f"{url}/v1"}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """See Client."""
        return {"PYTHONPATH": str(script.parent)}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return target.startswith("/v1/chat/completions")

    def phantom(self, home: Path) -> str:
        """See Client."""
        line = next((each for each in (home / ".env").read_text().splitlines() if "OPENAI_API_KEY" in each), "")
        return line.partition("=")[2].partition(" ")[0].strip("'")

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1/chat/completions", "Authorization", f"Bearer {phantom}"


CLIENTS: tuple[Client, ...] = (OpenCode(), Aider())
