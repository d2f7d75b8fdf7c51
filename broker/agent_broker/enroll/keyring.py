"""keyring as a tool that can be enrolled: the programs that ask it (twine, pip, uv), and passwords in their files.

Programs of Python are their interpreter, their script and the whole virtual environment around it; uv is one file. What
is done to the files is in keyring_survey.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.keyring_survey import KeyringSurvey
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.user_files import UserFiles
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker_shims.keyring import TOOL

_TOOL: Final = AgentName(TOOL)
_SEARCHED: Final = ("twine", "uv", "pip")
_ROLE: Final = RoleRule(argv0_names=("uv",), runtimes=("loader", "index"))
"""What scripts add is in tool_plan."""


@dataclass(frozen=True)
class KeyringRecipe:
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = _TOOL
    role: RoleRule = field(default=_ROLE)
    is_script: bool = True

    @property
    def commands(self) -> tuple[str, ...]:
        """See ToolRecipe: each program starts the shim itself."""
        return ()

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "upload.pypi.org", "https://upload.pypi.org"

    def sets(self, program: Path) -> dict[str, str]:
        """See ToolRecipe."""
        del program
        return {}

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe."""
        yield from self.all_programs(owner, search_path)

    def all_programs(self, owner: Owner, search_path: Iterable[Path]) -> tuple[Path, ...]:
        """See tool_plan.HasPrograms: the first of each name."""
        folders = (*search_path, Path(owner.home) / ".local/bin", Path("/usr/local/bin"))
        found = []
        for name in _SEARCHED:
            place = next((each / name for each in folders if os.access(each / name, os.X_OK)), None)
            found += [place] if place is not None and _is_enrollable(place) else []
        return tuple(found)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe; a home without any password is enrolled all the same."""
        del owner
        return KeyringSurvey(files, self.shim).survey()


def _is_enrollable(path: Path) -> bool:
    """Tell whether a program found by chance is worth proposing: native, or of a virtual environment."""
    place = Path(os.path.realpath(path))
    try:
        with place.open("rb") as file:
            return file.read(2) != b"#!" or (place.parent.parent / "pyvenv.cfg").is_file()
    except OSError:
        return False
