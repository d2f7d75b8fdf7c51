"""The real agents from npm; and for the demo, where no registry can be reached, the sample agent for Claude Code.

The packages are kept outside the checkout, so that they are downloaded once: Claude Code in AGENT_BROKER_NPM_CACHE,
the others, with the Node that they run on, in AGENT_BROKER_NPM_CACHE_MORE.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from tests.demo.check import StepFailedError
from tests.demo.machine import run_tool
from tests.fakes.agent import build_agent

PACKAGE = "@anthropic-ai/claude-code"
VERSION = "2.1.330"
CACHE = Path("/var/cache/agent-broker-npm")
CACHE_VARIABLE = "AGENT_BROKER_NPM_CACHE"
MORE_CACHE = Path("/var/cache/agent-broker-npm-more")
MORE_CACHE_VARIABLE = "AGENT_BROKER_NPM_CACHE_MORE"
MORE = {"@openai/codex": "0.169.0", "@google/gemini-cli": "0.61.0", "node": "24"}
"""Name: version, or the first numbers of it."""
REAL = "claude-code"
SAMPLE = "sample"
_INSTALL_S = 600
_NPM_LINES = 3  # the code, and what went wrong


class Agent(Struct, frozen=True):
    """An agent that can be run as ``claude``."""

    kind: str
    """REAL or SAMPLE."""
    program: Path
    """What is started; everybody may execute it."""
    why: str = ""
    """Why it is not the real one."""

    @property
    def name(self) -> str:
        """How people call it."""
        return f"Claude Code {VERSION}" if self.kind == REAL else "the SAMPLE AGENT of tests/fakes"


def find_agent(wanted: str, folder: Path) -> Agent:
    """Return the agent to use.

    Args:
        wanted: REAL or SAMPLE; ``auto``: the real one if it can be had.
        folder: where a sample agent is put.
    """
    if wanted == SAMPLE:
        return _sample(folder, "it was asked for")
    try:
        return Agent(REAL, claude_code())
    except StepFailedError as error:
        if wanted == REAL:
            raise
        return _sample(folder, error.seen)


def more_agents() -> Path:
    """Return the folder with Codex, Gemini and Node: ``node_modules`` below it.

    Raises:
        StepFailedError: they can't be had.
    """
    cache = Path(os.environ.get(MORE_CACHE_VARIABLE) or MORE_CACHE)
    _have(cache, MORE)
    return cache


def claude_code() -> Path:
    """Return Claude Code's program.

    Raises:
        StepFailedError: it can't be had.
    """
    cache = Path(os.environ.get(CACHE_VARIABLE) or CACHE)
    program = cache / "node_modules/.bin/claude"
    _have(cache, {PACKAGE: VERSION}, program)
    return program


def _have(cache: Path, packages: Mapping[str, str], *programs: Path) -> None:
    """Install packages, unless they and the programs are there."""
    if not _are_there(cache, packages, programs):
        _install(cache, packages)
    if not _are_there(cache, packages, programs):
        raise StepFailedError(f"{_names(packages)} in {cache}", "npm installed something else")


def _are_there(cache: Path, packages: Mapping[str, str], programs: Iterable[Path]) -> bool:
    versions = {name: _version_in(cache, name) for name in packages}
    right = all(f"{versions[name]}.".startswith(f"{wanted}.") for name, wanted in packages.items())
    return right and all(program.exists() for program in programs)


def _install(cache: Path, packages: Mapping[str, str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise StepFailedError(f"npm, to install {_names(packages)}", "npm is not installed")
    if {name for _, name in socket.if_nameindex()} <= {"lo"}:  # npm would try for 70 seconds, for each of its packages
        raise StepFailedError(f"npm to install {_names(packages)}", "this network namespace has no network")
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    wanted = [f"{name}@{version}" for name, version in packages.items()]
    command = [npm, "install", "--prefix", str(cache), "--no-fund", "--no-audit", *wanted]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S, umask=0o022)
    except subprocess.CalledProcessError as error:
        said = [line.removeprefix("npm error ") for line in error.stderr.splitlines() if line.startswith("npm error")]
        raise StepFailedError(f"npm to install {_names(packages)}", "npm: " + "; ".join(said[:_NPM_LINES])) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(f"npm to install {_names(packages)}", error) from error


def _names(packages: Mapping[str, str]) -> str:
    return ", ".join(packages)


def _version_in(cache: Path, name: str) -> str:
    package = cache / "node_modules" / name / "package.json"
    if not package.exists():
        return ""
    return run_tool("sed", "-n", r's/^ *"version": *"\([^"]*\)".*/\1/p', str(package)).strip()


def _sample(folder: Path, why: str) -> Agent:
    return Agent(SAMPLE, build_agent(folder / "claude"), why)
