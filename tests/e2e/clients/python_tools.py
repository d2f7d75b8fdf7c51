"""pip, twine, uv and keyring from PyPI, with our backend, in a virtual environment that root made; kept between runs.

It is made before the world, which has no way out to PyPI.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.demo.check import StepFailedError
from tests.demo.processes import REPOSITORY
from tests.e2e.agents_generic.installed import CACHE, CACHE_VARIABLE

PACKAGES = ("pip==26.3", "twine==7.0.0", "uv==0.13.9", "keyring==25.7.0", "pytest==9.2.0")
_PYTHON = "/usr/bin/python3"
_INSTALL_S = 300


def install() -> None:
    """Make the environment, or bring our backend in it up to date.

    Raises:
        StepFailedError: it can't be made.
    """
    folder = environment()
    done = folder / "installed"
    named = "\n".join((*PACKAGES, ""))
    if not done.exists() or done.read_text() != named:
        shutil.rmtree(folder, ignore_errors=True)
        _run(_PYTHON, "-m", "venv", str(folder))
        _run(str(folder / "bin/python"), "-m", "pip", "install", *_QUIET, "--upgrade", "setuptools", *PACKAGES)
        done.write_text(named)
    source = REPOSITORY / "keyring_backend"
    copied = folder / "source"  # a build writes beside its source
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(source, copied, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    own = ("--no-build-isolation", "--no-deps", "--force-reinstall", str(copied))
    _run(str(folder / "bin/python"), "-m", "pip", "install", *_QUIET, *own)
    shutil.rmtree(copied)


def environment() -> Path:
    """Return the environment's folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or CACHE) / "python-tools"


def version_of(package: str) -> str:
    """Return the version of one of PACKAGES."""
    return next(each.partition("==")[2] for each in PACKAGES if each.startswith(f"{package}=="))


_QUIET = ("--quiet", "--disable-pip-version-check", "--no-warn-script-location")


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S, umask=0o022)
    except subprocess.CalledProcessError as error:
        raise StepFailedError("the clients of package indexes to be installed", error.stderr[-1000:]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError("the clients of package indexes to be installed", error) from error
