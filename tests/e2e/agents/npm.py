"""Packages as ``npm install --global`` leaves them, with a prefix below the home."""

import os
from pathlib import Path

from tests.demo.world import World
from tests.e2e.agents.place import give

PREFIX = ".npm-global"


def modules(world: World) -> Path:
    """Return where packages are."""
    return world.home / PREFIX / "lib/node_modules"


def linked(world: World, name: str, script: Path) -> Path:
    """Link what a package starts to what its users type, and give all to the user; return the link."""
    link = world.home / PREFIX / "bin" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(script, link.parent))
    script.chmod(0o755)
    give(world, world.home / PREFIX)
    return link
