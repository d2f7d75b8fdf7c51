"""Claude Code as an agent that can be enrolled. What is done to its files is in claude_survey."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent_broker.enroll.claude_survey import EXPORTED, ClaudeSurvey
from agent_broker.enroll.exported import Exports
from agent_broker.enroll.newest import newest_first
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.roles import CLAUDE
from agent_broker.enroll.user_files import UserFiles
from agent_broker.enroll.variables import OwnLine, Variable
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName

_AGENT = AgentName("claude")


@dataclass(frozen=True)
class ClaudeRecipe:
    """See Recipe."""

    managed_settings: Path = Path("/etc/claude-code/managed-settings.json")
    """The operator's own settings of Claude, which beat the user's."""
    exports: Exports | None = None
    """Looks for keys that profiles export; None: they are warned of only."""
    agent: AgentName = _AGENT
    role: RoleRule = CLAUDE
    is_script: bool = False

    @property
    def exported(self) -> Mapping[str, Variable]:
        """See ReadsEnvironment."""
        return EXPORTED

    @property
    def own_lines(self) -> frozenset[OwnLine]:
        """See ReadsEnvironment."""
        return frozenset()

    def with_exports(self, exports: Exports) -> "ClaudeRecipe":
        """See ReadsEnvironment."""
        return replace(self, exports=exports)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe."""
        return ClaudeSurvey(
            files=files, owner=owner, exports=self.exports, managed_settings=self.managed_settings
        ).survey()

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return named

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe."""
        home = Path(owner.home)
        yield from (folder / "claude" for folder in search_path)
        yield home / ".local/bin/claude"
        yield home / ".claude/local/claude"  # a script in some versions: passed over
        yield home / ".claude/local/node_modules/.bin/claude"
        yield home / ".npm-global/bin/claude"
        yield from newest_first(home.glob(".nvm/versions/node/*/bin/claude"))
        yield home / "node_modules/.bin/claude"
        yield from (Path("/usr/local/bin/claude"), Path("/usr/bin/claude"))
        yield from newest_first(home.glob(".local/share/claude/versions/*"))
