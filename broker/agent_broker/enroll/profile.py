"""Variables that a user's shell profile exports, as far as a line says so by itself. For warnings only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError

_PROFILES = (
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".config/fish/config.fish",
)
_ASSIGNMENT = re.compile(r"\s*(?:export\s+|declare\s+-x\s+|set\s+-\w*x\w*\s+)?(\w+)(?:=|\s)")


@dataclass(frozen=True)
class Export:
    """One line of a profile."""

    name: str
    place: str
    """``file:line``."""


def exports(files: UserFiles, names: tuple[str, ...]) -> Iterator[Export]:
    """Yield the lines of the profiles that set one of the variables; what can't be read is passed over."""
    for path in _PROFILES:
        try:
            content = files.read(path)
        except MisuseError:
            continue
        lines = content.data.decode("utf-8", "replace").splitlines() if content is not None else []
        for number, line in enumerate(lines, 1):
            found = _ASSIGNMENT.match(line)
            if found and found[1] in names:
                yield Export(found[1], f"{files.absolute(path)}:{number}")
