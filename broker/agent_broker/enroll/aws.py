"""AWS's tools as what can be enrolled: the aws command, and programs that use boto3. Their files: enroll.aws_survey.

A Python program is its interpreter, its script and its package (enroll.program). What it is told by its environment to
load, to believe or to call is a taint; ``export-credentials`` makes the aws command one that prints what it is given.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_broker.enroll.aws_survey import AwsSurvey
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.tool_plan import StartsItsHelper
from agent_broker.enroll.user_files import UserFiles
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName

_TOOL: Final = AgentName("aws")
_FIRST_LINE_BYTES: Final = 256
_SHELL_LINE: Final = re.compile(rb"#![^\n]*[/ ](?:ba|da|z|k|a)?sh\b")
_ROLE: Final = RoleRule(
    argv0_names=("aws",),
    runtimes=("loader", "python", "aws"),
    refused_arguments=("export-credentials",),
)
"""Of a native executable; a script's is made from how its interpreter must be started."""


@dataclass(frozen=True)
class AwsRecipe(StartsItsHelper):
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = _TOOL
    role: RoleRule = _ROLE
    is_script: bool = True

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "dev", ""

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: as the user would find it. What is a shell's (a version manager's) is none."""
        found = (folder / "aws" for folder in search_path)
        yield from (each for each in found if not _is_shell_script(each))
        yield Path(owner.home) / ".local/bin/aws"
        yield from (Path("/usr/local/bin/aws"), Path("/usr/bin/aws"))

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe.

        Raises:
            MisuseError: no profile has keys of its own, or a file can't be edited.
        """
        del owner
        return AwsSurvey(files, self.shim).survey()


def _is_shell_script(path: Path) -> bool:
    """Tell whether a file's first line names a shell; what can't be read is looked at when it is enrolled."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        head = os.read(fd, _FIRST_LINE_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    return _SHELL_LINE.match(head) is not None
