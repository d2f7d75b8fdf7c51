"""A developer's own tools in normal use, with credential files in their places."""

import shutil
import zipfile
from pathlib import Path

from tests.e2e.noise.row import stated
from tests.e2e.noise.world import PYTHON, World

_VERSION = "1.0.1"
_READ_DECOY = "import os, sys; open(os.path.expanduser('~/.claude/.credentials.json')).read()"
_UPDATE = """
import os, shutil, sys
new, link = sys.argv[1:]
shutil.copyfile(sys.executable, new)
with open(new, "ab") as file:
    file.write(b"the next version")
os.chmod(new, 0o755)
os.symlink(new, link + ".new")
os.rename(link + ".new", link)
"""
_INFO = "example_of_noise-1.0.dist-info"
_WHEEL = {
    "example_of_noise.py": "",
    f"{_INFO}/METADATA": "Metadata-Version: 2.1\nName: example-of-noise\nVersion: 1.0\n",
    f"{_INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{_INFO}/RECORD": f"example_of_noise.py,,\n{_INFO}/METADATA,,\n{_INFO}/WHEEL,,\n{_INFO}/RECORD,,\n",
}


def _git_status(made: World) -> None:
    for words in (("status",), ("log", "--stat"), ("diff", "HEAD"), ("grep", "answer")):
        made.as_user("git", *words, cwd=made.project)


def _git_push(made: World) -> None:
    with (made.project / "README.md").open("a") as file:
        file.write("More of it.\n")
    made.as_user("git", "commit", "--quiet", "--all", "-m", "more", cwd=made.project)
    made.as_user("git", "push", "--quiet", "origin", "HEAD", cwd=made.project)
    made.as_user("git", "fetch", "--quiet", "origin", cwd=made.project)


def _agent_reads(made: World) -> None:
    made.as_user(made.launcher, "-c", _READ_DECOY)


def _agent_updates(made: World) -> None:
    """The agent writes its next version and switches its launcher, as Claude Code does."""
    new = made.agent.with_name(_VERSION)
    made.as_user(made.launcher, "-c", _UPDATE, new, made.launcher)
    _undo_update(made, new)


def _agent_starts_updated(made: World) -> None:
    """And its next version is started before it was approved."""
    new = made.agent.with_name(_VERSION)
    made.as_user(made.launcher, "-c", _UPDATE, new, made.launcher)
    made.as_user(made.launcher, "-c", _READ_DECOY)
    _undo_update(made, new)


def _undo_update(made: World, new: Path) -> None:
    new.unlink()
    made.launcher.unlink()
    made.launcher.symlink_to(made.agent)
    made.give(made.launcher)


def _npm(made: World) -> None:
    package = made.home / "library"
    package.mkdir()
    (package / "package.json").write_text('{"name": "library", "version": "1.0.0", "main": "index.js"}\n')
    (package / "index.js").write_text("module.exports = 42\n")
    made.give(package)
    made.as_user("npm", "install", "--offline", "--no-audit", "--no-fund", package, cwd=made.project)
    made.as_user("npm", "ls", cwd=made.project)
    shutil.rmtree(made.project / "node_modules")


def _pip(made: World) -> None:
    wheel = made.backup / "example_of_noise-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, content in _WHEEL.items():
            file.writestr(name, content)
    environment = made.home / "venv"
    made.as_user(PYTHON, "-m", "venv", environment)
    made.as_user(environment / "bin/pip", "install", "--no-index", "--disable-pip-version-check", "--quiet", wheel)
    assert "example-of-noise" in made.as_user(environment / "bin/pip", "list", "--disable-pip-version-check")
    shutil.rmtree(environment)


ROWS = (
    stated("git status, log, diff, grep", _git_status),
    stated("git commit, push, fetch", _git_push),
    stated("the agent reads its own file", _agent_reads),
    stated("the agent updates itself", _agent_updates),
    stated("its next version starts unapproved", _agent_starts_updated, 1, "warning"),
    stated("npm install", _npm),
    stated("pip install", _pip),
)
