"""An agent that can be enrolled by a recipe that is data. What the data may say is in recipe_file."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent_broker.enroll.data_survey import DataSurvey, own_lines_of, variables_of
from agent_broker.enroll.exported import Exports
from agent_broker.enroll.newest import newest_first
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.recipe_file import RecipeFile
from agent_broker.enroll.user_files import UserFiles
from agent_broker.enroll.variables import OwnLine, Variable
from agent_broker.identity.registry import RoleRule, SettingsFile
from agent_broker.ids import AgentName

_MAX_PLACES = 64
"""Of one pattern: a folder of the user's can hold any number of names."""


@dataclass(frozen=True)
class DataRecipe:
    """See Recipe."""

    data: RecipeFile
    exports: Exports | None = None
    """Looks for keys that profiles export; None: they are warned of only."""

    @property
    def agent(self) -> AgentName:
        """See Recipe."""
        return AgentName(self.data.name)

    @property
    def role(self) -> RoleRule:
        """See Recipe; without a name to be started by, it is as the script's interpreter must be started."""
        return self.data.role.rule

    @property
    def is_script(self) -> bool:
        """See Recipe."""
        return self.data.program.script

    @property
    def exported(self) -> Mapping[str, Variable]:
        """See ReadsEnvironment."""
        return variables_of(self.data)

    @property
    def own_lines(self) -> frozenset[OwnLine]:
        """See ReadsEnvironment."""
        return own_lines_of(self.data)

    def with_exports(self, exports: Exports) -> "DataRecipe":
        """See ReadsEnvironment."""
        return replace(self, exports=exports)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe."""
        found = DataSurvey(files=files, owner=owner, exports=self.exports, recipe=self.data).survey()
        home = Path(owner.home)
        settings = (SettingsFile(str(home / each.file), each.format, each.hot) for each in self.data.settings)
        return replace(found, settings=tuple(settings))

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe."""
        for folder in search_path:
            yield from (folder / command for command in self.data.program.commands)
        for place in self.data.program.places:
            path = place.replace("~/", f"{owner.home.rstrip('/')}/", 1) if place.startswith("~/") else place
            if "*" not in path:
                yield Path(path)
                continue
            found = Path("/").glob(path.lstrip("/"))
            yield from newest_first([each for each, _ in zip(found, range(_MAX_PLACES), strict=False)])
