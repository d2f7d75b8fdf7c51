"""``agent-broker run --with NAME... -- CMD``: a command is given secrets of the vault, by a launcher that is not us.

This process, which any program of the user's may look into, learns no secret: it cleans the environment and becomes the
launcher (shims/launcher.c), a program of root's that the monitor knows. The launcher asks the broker, and becomes CMD.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent_broker.config.layout import ENVIRONMENT_VARIABLE, Layout
from agent_broker.errors import MisuseError
from agent_broker.identity.environment import danger
from agent_broker.identity.environment_table import PROGRAMS_RUNTIMES
from agent_broker.identity.registry import load_registry
from agent_broker.vault.launched import TOOL


def launcher_command(layout: Layout, names: Sequence[str], command: Sequence[str]) -> tuple[str, list[str]]:
    """Return the launcher's path, and what it is to be started with.

    Raises:
        MisuseError: this user has no secret, or the command is not installed.
    """
    try:
        mine = [
            each for each in load_registry(layout.tools_folder) if (each.agent, each.owner_uid) == (TOOL, os.getuid())
        ]
    except OSError:
        mine = []
    if not mine:
        raise MisuseError(
            "there is no secret of yours to be given", next_step="sudo agent-broker secret add NAME --env VAR --for CMD"
        )
    found = shutil.which(command[0])
    if found is None:
        raise MisuseError("the command is not in the PATH", next_step="name it by its whole path")
    path = mine[0].binaries[0].path
    return path, [Path(path).name, *names, "--", os.path.realpath(found), *command[1:]]


def clean_environment(environment: Mapping[str, str], layout: Layout) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the environment without what makes programs run foreign code, and the names of what was left out."""
    kept = {name: value for name, value in environment.items() if not danger(name, PROGRAMS_RUNTIMES)}
    if layout.root != Path("/"):
        kept[ENVIRONMENT_VARIABLE] = str(layout.root)
    return kept, tuple(sorted(environment.keys() - kept.keys()))
