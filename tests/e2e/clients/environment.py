"""A virtual environment of the user's with distributions of this one's: the world has no network to get others from."""

import os
import shutil
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.demo.machine import run_tool
from tests.e2e.clients.world import Clients


def make_program(
    clients: Clients, name: str, text: str, package: str, wanted: Callable[[str], bool] = lambda _: True
) -> Path:
    """Return a program in an environment of its own that has a distribution, and all that it needs.

    Args:
        clients: whose user gets it.
        name: of the environment, and of the program in it.
        text: of the program; ``{python}`` is its interpreter.
        package: the distribution.
        wanted: which of the files, by their path below site-packages.
    """
    environment = clients.home / name
    run_tool("/usr/bin/python3", "-m", "venv", "--without-pip", str(environment))
    site = next((environment / "lib").iterdir()) / "site-packages"
    for each in _with_needs(package):
        found = distribution(each)
        for file in found.files or ():
            if ".." in file.parts or not wanted(str(file)) or not Path(str(file.locate())).is_file():
                continue
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), site / file)
    run_tool(str(environment / "bin/python"), "-m", "compileall", "-q", str(environment / "lib"))  # as pip does
    program = clients.write(f"{name}/bin/{name}", text.replace("{python}", f"{environment}/bin/python"), 0o755)
    for path in (environment, *environment.rglob("*")):
        os.chown(path, clients.uid, clients.world.user.pw_gid, follow_symlinks=False)
    return program


def _with_needs(package: str) -> list[str]:
    found, left = [], [package]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.append(name)
        needed = [Requirement(each) for each in distribution(name).requires or ()]
        left += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found
