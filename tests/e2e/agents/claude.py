"""Claude Code, as its own installer and as npm leave it, with each of its logins."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.demo.agent import VERSION
from tests.demo.world import World
from tests.e2e.agents.claude_clouds import CLOUD_WAYS
from tests.e2e.agents.client import Client, Login, made_up
from tests.e2e.agents.place import give

_SETTINGS = ".claude/settings.json"
_CREDENTIALS = ".claude/.credentials.json"
_CONFIG = ".claude.json"
_PACKAGE = "@anthropic-ai/claude-code"
OUT_OF_DATE = "OAuth login, access token out of date"
_LIFE_S = 6 * 3600
# Indented as by hand: all of it is kept.
_TEXT = """{
  "permissions": {"allow": [ "Bash" ]},
     "cleanupPeriodDays":   14%s
}
"""


def _settings(**members: object) -> str:
    return _TEXT % "".join(f",\n  {json.dumps(name)}: {json.dumps(value)}" for name, value in members.items())


def _config(**more: object) -> str:
    return json.dumps({"numStartups": 41, "hasCompletedOnboarding": True, **more}, indent=2)


def api_key() -> Login:
    """In the settings' environment."""
    key = made_up("sk-ant-api03-", 93)
    files = {_SETTINGS: _settings(env={"ANTHROPIC_API_KEY": key, "EDITOR": "vim"}), _CONFIG: _config()}
    return Login(files, {"API key": key}, {"x-api-key": key})


def _exported_key() -> Login:
    """By a shell's profile, as many do."""
    key = made_up("sk-ant-api03-", 93)
    text = f"alias ll='ls -l'\nexport ANTHROPIC_API_KEY={key}  # work\nexport EDITOR=vim\n"
    files = {".bashrc": text, ".profile": '. "$HOME/.bashrc"\n', _SETTINGS: _settings(), _CONFIG: _config()}
    named = {"ANTHROPIC_API_KEY": ".bashrc"}
    return Login(files, {"API key": key}, {"x-api-key": key}, options=("--profiles",), exported=named)


def _auth_token() -> Login:
    token = made_up("gateway-", 60)
    files = {_SETTINGS: _settings(env={"ANTHROPIC_AUTH_TOKEN": token}), _CONFIG: _config()}
    return Login(files, {"token": token}, {"authorization": f"Bearer {token}"})


def _primary_api_key() -> Login:
    key = made_up("sk-ant-api03-", 93)
    files = {_SETTINGS: _settings(), _CONFIG: _config(primaryApiKey=key)}
    return Login(files, {"API key": key}, {"x-api-key": key})


def _helper() -> Login:
    key = made_up("sk-ant-api03-", 93)
    files = {_SETTINGS: _settings(apiKeyHelper=f"echo {key}"), _CONFIG: _config()}
    both = {"x-api-key": key, "authorization": f"Bearer {key}"}
    return Login(files, {"API key": key}, both, refused="a command's output can't be moved")


def login(left_s: int = _LIFE_S) -> Login:
    """Log in by OAuth; ``left_s``: seconds for which the access token is valid still."""
    access, refresh = made_up("sk-ant-oat01-", 93), made_up("sk-ant-ort01-", 93)
    tokens = {
        "accessToken": access,
        "refreshToken": refresh,
        "expiresAt": int((time.time() + left_s) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    files = {_CREDENTIALS: json.dumps({"claudeAiOauth": tokens}), _CONFIG: _config()}
    named = {"access token": access, "refresh token": refresh}
    return Login(files, named, {"authorization": f"Bearer {access}"})


def _helper_and_login() -> Login:
    key, base = made_up("sk-ant-api03-", 93), login()
    files = {**base.files, _SETTINGS: _settings(apiKeyHelper=f"echo {key}")}
    directly = {"x-api-key": key, "authorization": f"Bearer {key}"}
    return Login(files, base.secrets, base.sent, directly)


def _oauth_token() -> Login:
    token = made_up("sk-ant-oat01-", 93)
    files = {_SETTINGS: _settings(env={"CLAUDE_CODE_OAUTH_TOKEN": token}), _CONFIG: _config()}
    return Login(files, {"OAuth token": token}, {"authorization": f"Bearer {token}"})


def _native(world: World) -> Path:
    """As its own installer does: a file for each version, and a link to it."""
    place = world.home / f".local/share/claude/versions/{VERSION}"
    return _install(world, place, world.home / ".local/bin/claude")


def _npm(world: World) -> Path:
    """As ``npm install --global`` does, with a prefix below the home."""
    package = world.home / ".npm-global/lib/node_modules" / _PACKAGE
    source = world.agent.program.resolve().parents[1]
    shutil.copytree(source, package, symlinks=True, ignore=shutil.ignore_patterns("*.exe"))
    return _install(world, package / "bin/claude.exe", world.home / ".npm-global/bin/claude")


def _install(world: World, place: Path, link: Path) -> Path:
    for folder in (place.parent, link.parent):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(world.agent.program.resolve(), place)
    place.chmod(0o755)
    link.symlink_to(os.path.relpath(place, link.parent))
    give(world, world.home / link.relative_to(world.home).parts[0])
    return link


class Claude(Client):
    """See the module."""

    name = "claude"
    title = "Claude Code"
    version = VERSION
    decoy = _CREDENTIALS
    layouts: Mapping[str, Callable[[World], Path]] = {"native": _native, "npm": _npm}
    ways: Mapping[str, Callable[[], Login]] = {
        "API key, settings `env`": api_key,
        "`ANTHROPIC_API_KEY`, `~/.bashrc`, with `--profiles`": _exported_key,
        "`ANTHROPIC_AUTH_TOKEN`, settings `env`": _auth_token,
        "`primaryApiKey`": _primary_api_key,
        "`apiKeyHelper`": _helper,
        "`apiKeyHelper`, and an OAuth login": _helper_and_login,
        "OAuth login": login,
        "`CLAUDE_CODE_OAUTH_TOKEN`, settings `env`": _oauth_token,
        **CLOUD_WAYS,
    }
    more_ways: Mapping[str, Callable[[], Login]] = {OUT_OF_DATE: lambda: login(left_s=-60)}
    astray: Mapping[str, str] = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "sk-ant-another"}
    hold_after = 4  # two that begin it, two with text

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "-p", prompt, "--allowedTools", "Bash")

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "-p", prompt, "--output-format", "stream-json", "--verbose", "--include-partial-messages")

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_BEDROCK_BASE_URL": url, "ANTHROPIC_VERTEX_BASE_URL": f"{url}/v1"}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """See Client."""
        return {"BUN_OPTIONS": f"--preload={script}"}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return target.startswith(("/v1/messages", "/model/", "/v1/projects/"))

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1/messages", "Authorization", f"Bearer {phantom}"

    def next_version(self, executable: Path) -> Path:
        """See Client."""
        return executable.with_name(f"{VERSION}9") if executable.parent.name == "versions" else executable
