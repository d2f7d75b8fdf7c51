"""The agents enrolled by a recipe that is data, from npm and PyPI, downloaded once and kept; and all others."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.demo.agent import _have, claude_code, more_agents
from tests.demo.check import StepFailedError

CACHE = Path("/var/cache/agent-broker-generic")
CACHE_VARIABLE = "AGENT_BROKER_GENERIC_CACHE"
OPENCODE = "1.18.33"
COPILOT = "1.0.102"
QWEN = "0.24.4"
AIDER = "0.86.2"
PNPM = "12.21.0"
_MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
"""As npm calls it."""
_NPM = {"opencode-ai": OPENCODE, "@github/copilot": COPILOT, "@qwen-code/qwen-code": QWEN}
_SYSTEM_PYTHON = "/usr/bin/python3"  # one that every user may run
_INSTALL_S = 900


def have_all() -> None:
    """Install what is not there yet.

    Raises:
        StepFailedError: something can't be had.
    """
    npm("opencode-ai")
    copilot()
    aider()
    claude_code()
    more_agents()


def npm(package: str) -> Path:
    """Return the folder of one of the npm packages.

    Raises:
        StepFailedError: it can't be had.
    """
    folder = _folder("npm")
    _have(folder, _NPM)
    return folder / "node_modules" / package


def pnpm() -> Path:
    """Return pnpm's program, as npm installs it.

    Raises:
        StepFailedError: it can't be had.
    """
    folder = _folder("pnpm")
    _have(folder, {f"@pnpm/exe.linux-{_MACHINE}": PNPM})
    return folder / f"node_modules/@pnpm/exe.linux-{_MACHINE}/pnpm"


def copilot() -> Path:
    """Return the folder into which root has unpacked Copilot's program, as its page says.

    Raises:
        StepFailedError: it can't be had.
    """
    place = _folder("copilot")
    unpacked = place / "pkg/linux-x64" / COPILOT
    program = npm("@github/copilot").with_name("copilot-linux-x64") / "copilot"
    if not (unpacked / ".extraction-complete").exists():
        environment = {"COPILOT_SEA_EXTRACT_ONLY": "1", "COPILOT_PKG_CACHE_HOME": str(place), "PATH": "/usr/bin:/bin"}
        _run("Copilot", [str(program)], environment)
    return unpacked


def aider() -> Path:
    """Return Aider's script, in a Python environment of its own that root made.

    Raises:
        StepFailedError: it can't be had.
    """
    folder = _folder("aider")
    script, done = folder / "bin/aider", folder / f"installed-{AIDER}"
    if not done.exists():
        shutil.rmtree(folder)
        pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", f"aider-chat=={AIDER}"]
        for command in ([_SYSTEM_PYTHON, "-m", "venv", str(folder)], pip):
            _run("Aider", command, os.environ)
        done.touch()
    return script


def _run(what: str, command: list[str], environment: Mapping[str, str]) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_INSTALL_S, umask=0o022, env=environment
        )
    except subprocess.CalledProcessError as error:
        raise StepFailedError(f"{what} to be installed", error.stderr[-1000:]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(f"{what} to be installed", error) from error


def _folder(name: str) -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE) or CACHE) / name
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folder
