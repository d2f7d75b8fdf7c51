"""Which agent the demo runs: the real Claude Code from npm, or, where no registry can be reached, the sample agent.

The package is kept outside the checkout (AGENT_BROKER_NPM_CACHE), so that it is downloaded once.
"""

import os
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct

from tests.demo.check import StepFailedError
from tests.demo.machine import run_tool
from tests.fakes.agent import build_agent

PACKAGE = "@anthropic-ai/claude-code"
VERSION = "2.1.330"
CACHE = Path("/var/cache/agent-broker-npm")
CACHE_VARIABLE = "AGENT_BROKER_NPM_CACHE"
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
        return Agent(REAL, _claude_code())
    except StepFailedError as error:
        if wanted == REAL:
            raise
        return _sample(folder, error.seen)


def _claude_code() -> Path:
    cache = Path(os.environ.get(CACHE_VARIABLE) or CACHE)
    program = cache / "node_modules/.bin/claude"
    if _version_in(cache) != VERSION or not program.exists():
        _install(cache)
    if _version_in(cache) != VERSION or not program.exists():
        raise StepFailedError(f"{PACKAGE} {VERSION} in {cache}", "npm installed something else")
    return program


def _install(cache: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise StepFailedError(f"npm, to install {PACKAGE}", "npm is not installed")
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(cache), "--no-fund", "--no-audit", f"{PACKAGE}@{VERSION}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S, umask=0o022)
    except subprocess.CalledProcessError as error:
        said = [line.removeprefix("npm error ") for line in error.stderr.splitlines() if line.startswith("npm error")]
        raise StepFailedError(f"npm to install {PACKAGE}", "npm: " + "; ".join(said[:_NPM_LINES])) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(f"npm to install {PACKAGE}", error) from error


def _version_in(cache: Path) -> str:
    package = cache / "node_modules" / PACKAGE / "package.json"
    if not package.exists():
        return ""
    return run_tool("sed", "-n", r's/^ *"version": *"\([^"]*\)".*/\1/p', str(package)).strip()


def _sample(folder: Path, why: str) -> Agent:
    return Agent(SAMPLE, build_agent(folder / "claude"), why)
