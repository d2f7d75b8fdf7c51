"""Gemini CLI, as npm leaves it, with each of its logins."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agent_broker.enroll.gemini_keychain import new_file
from tests.demo.agent import MORE, more_agents
from tests.demo.world import World
from tests.e2e.agents import npm
from tests.e2e.agents.client import Client, Login, made_up
from tests.fakes.cloud_logins import ADC, PROJECT, google_mode, service_account, user_login

_PACKAGE = "@google/gemini-cli"
_SETTINGS = ".gemini/settings.json"
_KEY_FILE = "keys/vertex.json"
API_KEY = "API key, `~/.gemini/.env`"
PROFILE = "`GEMINI_API_KEY`, `~/.bashrc`, with `--profiles`"
HOME_ENV = "API key, `~/.env`, with `--profiles`"
STORED_KEY = "API key, `gemini-credentials.json`"
GOOGLE = "Google login"
VERTEX_KEY = "Vertex AI, API key"
VERTEX_ADC = "Vertex AI, application default credentials"
VERTEX_ACCOUNT = "Vertex AI, service account's key"
OUT_OF_DATE = "Google login, access token out of date"


def _settings(way: str) -> str:
    return json.dumps({"security": {"auth": {"selectedType": way}}, "ui": {"theme": "Default"}}, indent=2)


def _env_key() -> Login:
    """Where Gemini's documentation says."""
    key = made_up("AIza", 35)
    files = {".gemini/.env": f"# mine\nGEMINI_API_KEY={key}\n", _SETTINGS: _settings("gemini-api-key")}
    return Login(files, {"API key": key}, {"x-goog-api-key": key})


def _exported_key() -> Login:
    """By a shell's profile."""
    key = made_up("AIza", 35)
    files = {".bashrc": f"export GEMINI_API_KEY={key}\n", ".profile": '. "$HOME/.bashrc"\n'}
    return _moved(key, {**files, _SETTINGS: _settings("gemini-api-key")}, ".bashrc")


def _home_env() -> Login:
    """In the last file of variables that Gemini looks for."""
    key = made_up("AIza", 35)
    files = {".env": f"EDITOR=vim\nGEMINI_API_KEY={key}\n", _SETTINGS: _settings("gemini-api-key")}
    return _moved(key, files, ".env")


def _moved(key: str, files: Mapping[str, str], place: str) -> Login:
    named, sent = {"GEMINI_API_KEY": place}, {"x-goog-api-key": key}
    return Login(files, {"API key": key}, sent, options=("--profiles",), exported=named)


def _stored_key() -> Login:
    """As Gemini keeps it where there is no desktop keyring."""
    key = made_up("AIza", 35)

    def sealed(user: str) -> str:
        return new_file(key, host=os.uname().nodename, user=user).decode()

    files = {".gemini/gemini-credentials.json": sealed, _SETTINGS: _settings("gemini-api-key")}
    return Login(files, {"API key": key}, {"x-goog-api-key": key})


def login(left_s: int = 3600) -> Login:
    """Log in with Google; ``left_s``: seconds for which the access token is valid still."""
    tokens = {
        "access_token": made_up("ya29.", 150),
        "refresh_token": made_up("1//0", 90),
        "scope": "https://www.googleapis.com/auth/cloud-platform openid",
        "token_type": "Bearer",
        "expiry_date": int((time.time() + left_s) * 1000),
    }
    files = {".gemini/oauth_creds.json": json.dumps(tokens, indent=2), _SETTINGS: _settings("oauth-personal")}
    named = {"access token": str(tokens["access_token"]), "refresh token": str(tokens["refresh_token"])}
    sent = {"authorization": f"Bearer {tokens['access_token']}"}
    return Login(files, named, sent, needs_its_maker=True)


def _vertex_key() -> Login:
    key = made_up("AIza", 35)
    files = {".gemini/.env": f"GOOGLE_API_KEY={key}\n", _SETTINGS: _settings("vertex-ai")}
    return Login(files, {"API key": key}, {"x-goog-api-key": key})


def _vertex_login() -> Login:
    """By application default credentials, where gcloud puts them."""
    user = user_login()
    return _google(user, ADC, user["refresh_token"], google_mode(user))


def _vertex_account() -> Login:
    """By a service account's key in a file that ``~/.gemini/.env`` names."""
    key = service_account()
    more = f"GOOGLE_APPLICATION_CREDENTIALS=@HOME@/{_KEY_FILE}\n"
    return _google(key, _KEY_FILE, key["private_key"].splitlines()[5], google_mode(), more)


def _google(login: Mapping[str, str], path: str, secret: str, known: Mapping[str, object], more: str = "") -> Login:
    token = made_up("ya29.", 150)
    env = f"GOOGLE_CLOUD_PROJECT={PROJECT}\nGOOGLE_CLOUD_LOCATION=us-central1\n{more}"
    return Login(
        {".gemini/.env": env, _SETTINGS: _settings("vertex-ai"), path: json.dumps(login, indent=2)},
        {"access token": token, "secret of the file": secret},
        {"authorization": f"Bearer {token}"},
        needs_its_maker=True,
        provider={**known, "new_access": token},
        options=("--profiles",),
    )


def _npm(world: World) -> Path:
    package = npm.modules(world) / _PACKAGE
    shutil.copytree(more_agents() / "node_modules" / _PACKAGE, package, symlinks=True)
    return npm.linked(world, "gemini", package / "bundle/gemini.js")


class Gemini(Client):
    """See the module."""

    name = "gemini"
    title = "Gemini CLI"
    version = MORE[_PACKAGE]
    decoy = ".gemini/oauth_creds.json"
    layouts: Mapping[str, Callable[[World], Path]] = {"npm, Node 20": _npm, "npm, Node 24": _npm}
    ways: Mapping[str, Callable[[], Login]] = {
        API_KEY: _env_key,
        PROFILE: _exported_key,
        HOME_ENV: _home_env,
        STORED_KEY: _stored_key,
        GOOGLE: login,
        VERTEX_KEY: _vertex_key,
        VERTEX_ADC: _vertex_login,
        VERTEX_ACCOUNT: _vertex_account,
    }
    more_ways: Mapping[str, Callable[[], Login]] = {OUT_OF_DATE: lambda: login(left_s=-60)}
    astray: Mapping[str, str] = {"GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9", "GEMINI_API_KEY": "AIza-another"}
    hold_after = 2

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "--skip-trust", "--approval-mode", "yolo", "-p", prompt)

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (*self.command(program, prompt), "--output-format", "stream-json")

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        return {"GOOGLE_GEMINI_BASE_URL": url, "CODE_ASSIST_ENDPOINT": url, "GOOGLE_VERTEX_BASE_URL": url}

    def environment(self, layout: str) -> Mapping[str, str]:
        """See Client."""
        node = f"{more_agents()}/node_modules/node/bin:" if "Node 24" in layout else ""
        return {"PATH": f"{node}/usr/bin:/bin"}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """See Client."""
        return {"NODE_OPTIONS": f"--require {script}"}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return "enerateContent" in target

    def update(self, program: Path, tool: Callable[[str], str]) -> Iterable[tuple[str, ...]]:
        """See Client: npm puts another package in the place of the old one."""
        script = program.resolve()
        yield "/usr/bin/python3", "-I", tool("npm_update.py"), str(script.parents[1]), str(script), str(program)

    def refreshes(self, target: str) -> bool:
        """See Client."""
        return target == "/token"

    def replay_as(self, login: Login, phantom: str) -> tuple[str, str, str]:
        """See Client: a Google login goes to Code Assist."""
        if "authorization" in login.sent:
            return "/v1internal:generateContent", "Authorization", f"Bearer {phantom}"
        return self.replay(phantom)

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1beta/models/m:generateContent", "x-goog-api-key", phantom
