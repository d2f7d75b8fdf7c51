"""The agents that are enrolled by a recipe that is data, from npm and PyPI, downloaded once and kept."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.demo.agent import _have
from tests.demo.check import StepFailedError

CACHE = Path("/var/cache/agent-broker-generic")
CACHE_VARIABLE = "AGENT_BROKER_GENERIC_CACHE"
OPENCODE = "1.18.33"
AIDER = "0.86.2"
_SYSTEM_PYTHON = "/usr/bin/python3"  # one that every user may run
_INSTALL_S = 900


def have_all() -> None:
    """Install what is not there yet.

    Raises:
        StepFailedError: something can't be had.
    """
    opencode()
    aider()


def opencode() -> Path:
    """Return OpenCode's executable.

    Raises:
        StepFailedError: it can't be had.
    """
    folder = _folder("npm")
    _have(folder, {"opencode-ai": OPENCODE})
    return (folder / "node_modules/.bin/opencode").resolve()


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
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S, umask=0o022)
            except subprocess.CalledProcessError as error:
                raise StepFailedError("Aider to be installed", error.stderr[-1000:]) from error
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StepFailedError("Aider to be installed", error) from error
        done.touch()
    return script


def _folder(name: str) -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE) or CACHE) / name
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folder
