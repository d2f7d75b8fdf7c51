"""Variables that a user's profile exports, as far as a line says so by itself. For warnings only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

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
    ".pam_environment",
)
_SYSTEMD = ".config/environment.d"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+|declare\s+-x\s+|set\s+-\w*x\w*\s+)?(\w+)(?:=|\s)")


@dataclass(frozen=True)
class Export:
    """A variable that is set somewhere."""

    name: str
    place: str
    """``file:line``, or the session."""
    value: str | None = field(default=None, repr=False)
    """None: not known; a line of a profile is for a shell to read."""


def exports(files: UserFiles, names: tuple[str, ...]) -> Iterator[Export]:
    """Yield the lines of the profiles that set one of the variables; what can't be read is passed over."""
    return (export for export in all_exports(files) if export.name in names)


def all_exports(files: UserFiles) -> Iterator[Export]:
    """Yield the lines of the profiles that look like an assignment; what can't be read is passed over."""
    for path in (*_PROFILES, *_systemd_profiles(files)):
        try:
            content = files.read(path)
        except MisuseError:
            continue
        lines = content.data.decode("utf-8", "replace").splitlines() if content is not None else []
        for number, line in enumerate(lines, 1):
            found = _ASSIGNMENT.match(line)
            if found:
                yield Export(found[1], f"{files.absolute(path)}:{number}")


def _systemd_profiles(files: UserFiles) -> list[str]:
    """Return what systemd reads for the user's session (environment.d(5))."""
    try:
        names = files.list_folder(_SYSTEMD)
    except MisuseError:
        return []
    return [f"{_SYSTEMD}/{name}" for name in names if name.endswith(".conf")]
