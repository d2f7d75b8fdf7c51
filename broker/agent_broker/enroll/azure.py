"""Azure's service principals: their secrets leave the Azure CLI's file; named programs get tokens through our ``az``.

A program that uses azure-identity executes ``az``; ours must be the first on its PATH. It answers that one command, so
the Azure CLI itself can't log in with what has moved. Programs are named by the operator: there is none to search.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_broker.enroll.azure_survey import AzureSurvey
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.tool_plan import StartsItsHelper
from agent_broker.enroll.user_files import UserFiles
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName

_TOOL: Final = AgentName("azure")
_ROLE: Final = RoleRule(argv0_names=(), runtimes=("loader", "python", "tls"))


@dataclass(frozen=True)
class AzureRecipe(StartsItsHelper):
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = _TOOL
    role: RoleRule = _ROLE
    is_script: bool = True

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "default", "https://vault.azure.net"

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: nobody's program is found by its name."""
        del owner, search_path
        yield from ()

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe.

        Raises:
            MisuseError: no service principal is there, or one that can't be moved.
        """
        return AzureSurvey(files, owner, _path_warnings(self.shim)).survey()


def _path_warnings(shim: Path) -> list[str]:
    found = shutil.which("az")
    if found is not None and os.path.realpath(found) == str(shim):
        return []
    other = f" (now that finds {found})" if found is not None else ""
    first = f"the programs must find our az first on their PATH{other}"
    return [f"{first}: sudo ln -s {shim} FOLDER/az, and put FOLDER first in their PATH"]
