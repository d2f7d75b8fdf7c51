"""The agents of the role tests, as npm installs them: where each is, how it is run, how it is enrolled."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from agent_broker.enroll.owner import Owner
from agent_broker.enroll.program import find_program
from agent_broker.enroll.roles import CLAUDE, CODEX, GEMINI
from agent_broker.identity.registry import EnrolledBinary, EnrolledScript, Enrollment, RoleRule
from tests.demo.agent import find_agent, more_agents

USER = 1500
_CODEX_BINARY = "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
_GEMINI = "@google/gemini-cli"


class TheAgent:
    """One agent: ``command`` runs a turn in ``work``; ``enrollment`` is as the recipe would make it."""

    name = ""
    role: RoleRule
    command: tuple[str, ...] = ()

    def __init__(self, folder: Path):
        self.home = folder / "home"
        self.work = folder / "work"
        for each in (folder, self.home, self.work):
            each.mkdir(mode=0o755, exist_ok=True)
            os.chown(each, USER, USER)
        self.more = Path("/nowhere")

    @property
    def binary(self) -> Path:
        raise NotImplementedError

    @property
    def script(self) -> EnrolledScript | None:
        return None

    @property
    def enrollment(self) -> Enrollment:
        path = self.binary.resolve()
        binary = EnrolledBinary(str(path), sha256_of(path), path.stat().st_size, script=self.script)
        return Enrollment(self.name, USER, "me", (binary,), self.role, (), (), 0)

    def point_at(self, port: int) -> None:
        """Write the settings that lead it to the model on this port."""

    def environment(self, port: int) -> dict[str, str]:  # noqa: ARG002 - the agents' own ones need it
        return {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}

    def tool_command(self, port: int) -> str:
        """What the model asks the agent to run: a tool that calls the model itself."""
        return f"python3 -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/whoami')\""

    def write(self, path: str, text: str) -> None:
        """Write a file of the user's home."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for each in (file.parent, file):
            os.chown(each, USER, USER)


class Claude(TheAgent):
    name = "claude"
    role = CLAUDE

    @property
    def binary(self):
        return find_agent("claude-code", self.home).program

    @property
    def command(self):
        return (str(self.binary), "-p", "find the word needle", "--allowedTools", "Bash,Grep")

    def environment(self, port):
        url = f"http://127.0.0.1:{port}"
        return super().environment(port) | {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "sk-test-1"}


class Codex(TheAgent):
    name = "codex"
    role = CODEX
    node = "/usr/bin"

    @property
    def binary(self):
        return more_agents() / "node_modules" / _CODEX_BINARY

    @property
    def command(self):
        launcher = more_agents() / "node_modules/.bin/codex"
        return (str(launcher), "exec", "--skip-git-repo-check", "--sandbox", "workspace-write", "run the tool")

    def point_at(self, port):
        self.write(
            ".codex/config.toml",
            'model_provider = "mock"\n[model_providers.mock]\nname = "mock"\nwire_api = "responses"\n'
            f'base_url = "http://127.0.0.1:{port}/v1"\nenv_key = "MOCK_KEY"\nstream_max_retries = 0\n'
            "[sandbox_workspace_write]\nnetwork_access = true\n",
        )

    def environment(self, port):
        environment = super().environment(port)
        return environment | {"MOCK_KEY": "sk-test-1", "PATH": f"{self.node}:{environment['PATH']}"}


class CodexOnNewNode(Codex):
    """Node 24 turns into the native binary in its own process."""

    @property
    def node(self):
        return str(more_agents() / "node_modules/node/bin")


class Gemini(TheAgent):
    """Below the user's home, writable by the user, as ``npm install --global`` with a prefix there leaves it."""

    name = "gemini"
    role = GEMINI

    def __init__(self, folder):
        super().__init__(folder)
        self.modules = self.home / "npm/lib/node_modules"
        self.package = self.modules / _GEMINI
        if not self.package.exists():
            shutil.copytree(more_agents() / "node_modules" / _GEMINI, self.package, symlinks=True)
            (self.home / "npm/bin").mkdir()
            link = self.home / "npm/bin/gemini"
            link.symlink_to(os.path.relpath(self.package / "bundle/gemini.js", link.parent))
            (self.package / "bundle/gemini.js").chmod(0o755)
            for each in (self.home / "npm", *(self.home / "npm").rglob("*")):
                os.chown(each, USER, USER, follow_symlinks=False)

    @property
    def binary(self):
        return Path(shutil.which("node"))

    @property
    def script(self):
        owner = Owner(USER, USER, (USER,), "roles", str(self.home))
        path = self.package / "bundle/gemini.js"
        return find_program(path, owner, (self.binary.parent,)).found.enrolled.script

    @property
    def command(self):
        return (str(self.home / "npm/bin/gemini"), "--skip-trust", "--approval-mode", "yolo", "-p", "run the tool")

    def point_at(self, port):  # noqa: ARG002
        self.write(".gemini/settings.json", json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}}))

    def environment(self, port):
        key = {"GEMINI_API_KEY": "test-key-1", "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{port}"}
        return super().environment(port) | key


AGENTS = {"claude": Claude, "codex": Codex, "codex-node24": CodexOnNewNode, "gemini": Gemini}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
