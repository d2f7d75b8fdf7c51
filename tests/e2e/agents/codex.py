"""Codex CLI, as npm and as its own archive leave it, with each of its logins."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.demo.agent import MORE, more_agents
from tests.demo.check import require
from tests.demo.world import World
from tests.e2e.agents import npm
from tests.e2e.agents.client import Client, Login, made_up
from tests.e2e.agents.place import Place, Turn, finished, give, require_well
from tests.e2e.agents.row import WORKS
from tests.fakes.login_server import jwt

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
ENV_FILE = "API key, `~/.codex/.env`, with `--profiles`"
PROFILE = "`CODEX_API_KEY`, `~/.profile`, with `--profiles`"
CHATGPT = "ChatGPT login"
OUT_OF_DATE = "ChatGPT login, access token out of date"


def _api_key() -> Login:
    """As ``codex login --api-key`` leaves it."""
    key = made_up("sk-proj-", 150)
    auth = {"auth_mode": "apikey", "OPENAI_API_KEY": key}
    files = {".codex/auth.json": json.dumps(auth, indent=2), ".codex/config.toml": _CONFIG}
    return Login(files, {"API key": key}, {"authorization": f"Bearer {key}"})


def _env_file() -> Login:
    """For a provider of its user's, which is told to take OpenAI's key from there."""
    key, ignored = made_up("sk-proj-", 150), made_up("sk-proj-", 150)
    text = f"# my keys\nexport OPENAI_API_KEY='{key}'  # work\nCODEX_API_KEY={ignored}\nEDITOR=vim"
    mine = 'model_providers.mine={name="mine", base_url="@URL@/v1", wire_api="responses", env_key="OPENAI_API_KEY"}'
    return Login(
        {".codex/.env": text, ".codex/config.toml": _CONFIG},
        {"API key": key, "CODEX_API_KEY, which Codex takes from no file": ignored},
        {"authorization": f"Bearer {key}"},
        options=("--profiles",),
        options_directly=("-c", 'model_provider="mine"', "-c", mine),
    )


def _exported_key() -> Login:
    """By a shell's profile."""
    key = made_up("sk-proj-", 150)
    files = {".profile": f"export CODEX_API_KEY='{key}'\nexport EDITOR=vim", ".codex/config.toml": _CONFIG}
    named = {"CODEX_API_KEY": ".profile"}
    sent = {"authorization": f"Bearer {key}"}
    return Login(files, {"API key": key}, sent, options=("--profiles",), exported=named)


def login(left_s: int = 24 * 3600) -> Login:
    """As ``codex login`` leaves it; ``left_s``: seconds for which the access token is valid still."""
    claims = {"https://api.openai.com/auth": {"chatgpt_account_id": "account-1", "chatgpt_plan_type": "plus"}}
    end_s = int(time.time()) + left_s
    tokens = {
        "id_token": jwt(email="dev@example.com", exp=end_s, jti=made_up("", 40), **claims),
        "access_token": jwt(exp=end_s, jti=made_up("", 40), **claims),
        "refresh_token": made_up("rt_", 90),
        "account_id": "account-1",
    }
    auth = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": _now()}
    files = {".codex/auth.json": json.dumps(auth, indent=2), ".codex/config.toml": _CONFIG}
    named = {name.replace("_", " "): tokens[name] for name in ("id_token", "access_token", "refresh_token")}
    return Login(files, named, {"authorization": f"Bearer {tokens['access_token']}"})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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


def ask_by_websocket(place: Place, client: Client) -> str:
    """With its built-in provider led to the broker, Codex tries a WebSocket first, and goes on without one."""
    place.answers("without a WebSocket")
    settings = ('model_provider="openai"', f'openai_base_url="http://127.0.0.1:{place.world.port}/v1"')
    options = tuple(word for each in settings for word in ("-c", each))
    before, phantom = len(place.requests()), client.phantom(place.world.home)
    process = place.start(client, client.command(place.program, "go on") + options, CODEX_API_KEY=phantom)
    said = finished(process)
    turn = Turn(process.returncode, said, place.requests()[before:])
    require("failed to connect to Responses WebSocket" in turn.said, "an attempt at a WebSocket", turn.said)
    require_well(turn, client, place.login.sent)
    return WORKS


class Codex(Client):
    """See the module."""

    name = "codex"
    title = "Codex CLI"
    version = MORE[_PACKAGE]
    decoy = ".codex/auth.json"
    layouts: Mapping[str, Callable[[World], Path]] = {"native": _native, "npm, Node 20": _npm, "npm, Node 24": _npm}
    ways: Mapping[str, Callable[[], Login]] = {
        API_KEY: _api_key,
        ENV_FILE: _env_file,
        PROFILE: _exported_key,
        CHATGPT: login,
    }
    more_ways: Mapping[str, Callable[[], Login]] = {OUT_OF_DATE: lambda: login(left_s=-60)}
    astray: Mapping[str, str] = {"CODEX_HOME": "/nonexistent", "CODEX_API_KEY": "sk-another"}
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
        uncompressed = "features.enable_request_compression=false"  # the provider here reads no zstd
        told = (f'openai_base_url="{url}/v1"', f'chatgpt_base_url="{url}/backend-api"', uncompressed)
        return tuple(word for each in told for word in ("-c", each))

    def environment(self, layout: str) -> Mapping[str, str]:
        """See Client."""
        node = f"{more_agents()}/node_modules/node/bin:" if "Node 24" in layout else ""
        return {"PATH": f"{node}/usr/bin:/bin"}

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
