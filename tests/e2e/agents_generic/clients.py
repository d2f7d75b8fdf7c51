"""The agents by recipe: how each is installed, logged in, run, and led to a provider without the broker."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.demo.agent import more_agents
from tests.demo.world import World
from tests.e2e.agents import npm
from tests.e2e.agents.client import Client, Login, made_up
from tests.e2e.agents.place import give
from tests.e2e.agents_generic import installed

_QWEN = "@qwen-code/qwen-code"
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
    shutil.copyfile((installed.npm("opencode-ai").parent / ".bin/opencode").resolve(), program)
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
    ways: Mapping[str, Callable[[], Login]] = {"keys of two providers, auth.json": _opencode_login}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "run", "--model", "anthropic/claude-sonnet-4-5", prompt)

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (*self.command(program, prompt)[:-1], "--format", "json", prompt)

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


def _linked(world: World, name: str, program: Path) -> Path:
    """As root installs it for all users; the user's PATH has a link to it."""
    link = world.home / ".local/bin" / name
    link.parent.mkdir(parents=True)
    program.chmod(0o755)
    link.symlink_to(program)
    give(world, world.home / ".local")
    return link


def _environment(world: World) -> Path:
    """As root makes it for all users: an environment of the world's own, which can be updated."""
    old, new = installed.aider().parents[1], world.root / "aider"
    if new.exists():
        shutil.rmtree(new)
    shutil.copytree(old, new, symlinks=True)
    script = new / "bin/aider"
    script.write_text(script.read_text().replace(str(old), str(new), 1))  # its first line names its interpreter
    return _linked(world, "aider", script)


class Aider(Client):
    """See the module."""

    name = "aider"
    title = "Aider"
    version = installed.AIDER
    is_roots = True
    fails_when_refused = False
    decoy = ".env"
    layouts: Mapping[str, Callable[[World], Path]] = {"venv": _environment}
    ways: Mapping[str, Callable[[], Login]] = {"OPENAI_API_KEY, ~/.env": _aider_login}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        words = "--no-git --no-stream --yes-always --no-check-update --no-show-model-warnings --no-analytics"
        more = "--no-show-release-notes --no-pretty --no-gitignore"
        return (str(program), "--model", "gpt-4o", *words.split(), *more.split(), "--message", prompt)

    def running(self, program: Path, prompt: str, tool: str) -> tuple[str, ...]:
        """See Client: the model has no tools; Aider's user has it run a command before it asks the model."""
        write = 'printf "/run %s\\n" "$1" > commands; shift; exec "$@"'
        return ("/bin/sh", "-c", write, "sh", tool, *self.command(program, prompt), "--load", "commands")

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return tuple("--stream" if word == "--no-stream" else word for word in self.command(program, prompt))

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        return {"OPENAI_API_BASE": f"{url}/v1"}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """See Client."""
        return {"PYTHONPATH": str(script.parent)}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return target.startswith("/v1/chat/completions")

    def update(self, program: Path, tool: Callable[[str], str]) -> Iterable[tuple[str, ...]]:
        """See Client: pip replaces modules in the environment."""
        (module,) = program.resolve().parents[1].glob("lib/python3*/site-packages/aider/__init__.py")
        yield "/usr/bin/python3", "-I", tool("other_version.py"), str(module), str(module)

    def phantom(self, home: Path) -> str:
        """See Client."""
        line = next((each for each in (home / ".env").read_text().splitlines() if "OPENAI_API_KEY" in each), "")
        return line.partition("=")[2].partition(" ")[0].strip("'")

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1/chat/completions", "Authorization", f"Bearer {phantom}"


class _ByNode(Client):
    """One that Node runs, and that speaks OpenAI's older interface."""

    def environment(self, layout: str) -> Mapping[str, str]:  # noqa: ARG002 - the same in each
        """See Client."""
        return {"PATH": f"{more_agents()}/node_modules/node/bin:/usr/bin:/bin", "TERM": "xterm"}

    def tainting(self, script: Path) -> Mapping[str, str]:
        """See Client."""
        return {"NODE_OPTIONS": f"--require {script}"}

    def asks_model(self, target: str) -> bool:
        """See Client."""
        return target.startswith("/v1/chat/completions")

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1/chat/completions", "Authorization", f"Bearer {phantom}"


_BY_PROFILE = '. "$HOME/.profile"; test -z "$DIRECT" || COPILOT_PROVIDER_BASE_URL=$DIRECT; exec "$0" "$@"'
"""A login shell's way to start Copilot, which is told its provider by variables alone."""


def _copilot_login() -> Login:
    key = made_up("sk-proj-", 120)
    lines = (
        "# mine",
        f"export COPILOT_PROVIDER_API_KEY='{key}'  # work",
        "export COPILOT_PROVIDER_BASE_URL=https://api.openai.com/v1",
        "export COPILOT_MODEL=gpt-5 COPILOT_OFFLINE=true",
        "",
    )
    return Login({".profile": "\n".join(lines)}, {"API key": key}, {"authorization": f"Bearer {key}"})


class Copilot(_ByNode):
    """See the module."""

    name = "copilot"
    title = "GitHub Copilot CLI"
    version = installed.COPILOT
    is_roots = True
    tells_why = False
    decoy = ".profile"
    layouts: Mapping[str, Callable[[World], Path]] = {
        "unpacked by root": lambda world: _linked(world, "copilot", installed.copilot() / "app.js")
    }
    ways: Mapping[str, Callable[[], Login]] = {"COPILOT_PROVIDER_API_KEY, ~/.profile": _copilot_login}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return ("/bin/sh", "-c", _BY_PROFILE, str(program), "-p", prompt, "--allow-all-tools", "--allow-all-paths")

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (*self.command(program, prompt), "--stream", "on")

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        return {"DIRECT": f"{url}/v1"}

    def update(self, program: Path, tool: Callable[[str], str]) -> Iterable[tuple[str, ...]]:
        """See Client: root unpacks the next version beside the old one."""
        script = program.resolve()
        new = program.parents[3] / "copilot-next"  # beside HOME, of HOME/.local/bin/copilot: gone with the world
        yield "/bin/cp", "-r", str(script.parent), str(new)
        yield "/usr/bin/python3", "-I", tool("other_version.py"), str(new / script.name), str(new / script.name)
        yield "/bin/ln", "-sfn", str(new / script.name), str(program)

    def phantom(self, home: Path) -> str:
        """See Client."""
        line = next(each for each in (home / ".profile").read_text().splitlines() if "_API_KEY" in each)
        return line.partition("=")[2].partition(" ")[0].strip("'")


def _qwen_login() -> Login:
    key = made_up("sk-", 60)
    text = f"# mine\nOPENAI_API_KEY={key}\nOPENAI_MODEL=qwen3-coder-plus\n"
    return Login({".qwen/.env": text}, {"API key": key}, {"authorization": f"Bearer {key}"})


def _npm_qwen(world: World) -> Path:
    """As ``npm install --global`` does, with a prefix below the home."""
    package = npm.modules(world) / _QWEN
    shutil.copytree(installed.npm(_QWEN), package, symlinks=True)
    return npm.linked(world, "qwen", package / "cli.js")


class Qwen(_ByNode):
    """See the module. Its shell tool takes node's "exit" for "close" (childProcessFallback), which may come first."""

    name = "qwen"
    title = "Qwen Code"
    version = installed.QWEN
    loses_output = True
    decoy = ".qwen/.env"
    layouts: Mapping[str, Callable[[World], Path]] = {"npm, by cli.js": _npm_qwen}
    ways: Mapping[str, Callable[[], Login]] = {"OPENAI_API_KEY, ~/.qwen/.env": _qwen_login}

    def command(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (str(program), "-p", prompt, "--approval-mode", "yolo")

    def streaming(self, program: Path, prompt: str) -> tuple[str, ...]:
        """See Client."""
        return (*self.command(program, prompt), "--output-format", "stream-json", "--include-partial-messages")

    def directly(self, url: str) -> Mapping[str, str]:
        """See Client."""
        return {"OPENAI_BASE_URL": f"{url}/v1"}

    def update(self, program: Path, tool: Callable[[str], str]) -> Iterable[tuple[str, ...]]:
        """See Client: npm puts another package in the place of the old one."""
        script = program.resolve()
        yield "/usr/bin/python3", "-I", tool("npm_update.py"), str(script.parent), str(script), str(program)


CLIENTS: tuple[Client, ...] = (OpenCode(), Aider(), Copilot(), Qwen())
