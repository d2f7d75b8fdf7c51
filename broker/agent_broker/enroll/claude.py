"""Claude Code as an agent that can be enrolled. What is done to its files is in claude_survey."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_broker.enroll.claude_survey import ClaudeSurvey
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.user_files import UserFiles
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName

_AGENT = AgentName("claude")
_ROLE = RoleRule(argv0_names=("claude",))
"""Claude re-executes its own binary as ``rg``: the same hash, and not the agent."""


@dataclass(frozen=True)
class ClaudeRecipe:
    """See Recipe."""

    managed_settings: Path = Path("/etc/claude-code/managed-settings.json")
    """The operator's own settings of Claude, which beat the user's."""
    agent: AgentName = _AGENT
    role: RoleRule = _ROLE

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe."""
        del owner
        return ClaudeSurvey(files, self.managed_settings).survey()

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe."""
        home = Path(owner.home)
        yield from (folder / "claude" for folder in search_path)
        yield home / ".local/bin/claude"
        yield home / ".claude/local/claude"  # a script in some versions: passed over
        yield home / ".claude/local/node_modules/.bin/claude"
        yield home / ".npm-global/bin/claude"
        yield from _newest_first(home.glob(".nvm/versions/node/*/bin/claude"))
        yield home / "node_modules/.bin/claude"
        yield from (Path("/usr/local/bin/claude"), Path("/usr/bin/claude"))
        yield from _newest_first(home.glob(".local/share/claude/versions/*"))


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    """Order by the numbers in the paths: 2.1.10 is newer than 2.1.9."""
    return sorted(paths, key=lambda path: [int(digits) for digits in re.findall("[0-9]+", str(path))], reverse=True)
