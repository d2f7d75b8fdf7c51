"""Gemini CLI as an agent that can be enrolled. What is done to its files is in gemini_survey."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent_broker.enroll.exported import Exports
from agent_broker.enroll.gemini_survey import EXPORTED, OWN_LINES, GeminiSurvey
from agent_broker.enroll.newest import newest_first
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.roles import GEMINI
from agent_broker.enroll.user_files import UserFiles
from agent_broker.enroll.variables import OwnLine, Variable
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName

_AGENT = AgentName("gemini")


@dataclass(frozen=True)
class GeminiRecipe:
    """See Recipe."""

    system_settings: Path = Path("/etc/gemini-cli/settings.json")
    """The operator's own settings of Gemini, which beat the user's."""
    exports: Exports | None = None
    """Looks for keys that profiles export; None: they are warned of only."""
    agent: AgentName = _AGENT
    role: RoleRule = GEMINI
    is_script: bool = True

    @property
    def exported(self) -> Mapping[str, Variable]:
        """See ReadsEnvironment."""
        return EXPORTED

    @property
    def own_lines(self) -> frozenset[OwnLine]:
        """See ReadsEnvironment."""
        return OWN_LINES

    def with_exports(self, exports: Exports) -> "GeminiRecipe":
        """See ReadsEnvironment."""
        return replace(self, exports=exports)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe."""
        return GeminiSurvey(
            files=files,
            owner=owner,
            exports=self.exports,
            user=owner.name,
            host=os.uname().nodename,
            system_settings=self.system_settings,
        ).survey()

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe."""
        home = Path(owner.home)
        yield from (folder / "gemini" for folder in search_path)
        yield home / ".local/bin/gemini"
        yield home / ".npm-global/bin/gemini"
        yield from newest_first(home.glob(".nvm/versions/node/*/bin/gemini"))
        yield home / "node_modules/.bin/gemini"
        yield from (Path("/usr/local/bin/gemini"), Path("/usr/bin/gemini"))
