"""Codex CLI as an agent that can be enrolled. What is done to its files is in codex_survey."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent_broker.enroll.codex_survey import EXPORTED, CodexSurvey
from agent_broker.enroll.exported import Exports
from agent_broker.enroll.newest import newest_first
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.roles import CODEX
from agent_broker.enroll.user_files import UserFiles
from agent_broker.enroll.variables import OwnLine, Variable
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName

_AGENT = AgentName("codex")
_NATIVE = "vendor/*-linux-*/{folder}/codex"
"""In the package of one platform, beside or below the package that npm links ``codex`` to."""


@dataclass(frozen=True)
class CodexRecipe:
    """See Recipe."""

    system_folder: Path = Path("/etc/codex")
    """The operator's own settings of Codex."""
    exports: Exports | None = None
    """Looks for keys that profiles export; None: they are warned of only."""
    agent: AgentName = _AGENT
    role: RoleRule = CODEX
    is_script: bool = False

    @property
    def exported(self) -> Mapping[str, Variable]:
        """See ReadsEnvironment."""
        return EXPORTED

    @property
    def own_lines(self) -> frozenset[OwnLine]:
        """See ReadsEnvironment."""
        return frozenset((each.only_in, name) for name, each in EXPORTED.items() if each.only_in)

    def with_exports(self, exports: Exports) -> "CodexRecipe":
        """See ReadsEnvironment."""
        return replace(self, exports=exports)

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe."""
        return CodexSurvey(files=files, owner=owner, exports=self.exports, system_folder=self.system_folder).survey()

    def executable_of(self, named: Path) -> Path:
        """See Recipe."""
        return next(native_of(named), named)

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe. What npm calls ``codex`` is a script: the native executable that it starts is the agent."""
        home = Path(owner.home)
        commands = [folder / "codex" for folder in search_path]
        commands += [home / ".local/bin/codex", home / ".npm-global/bin/codex"]
        commands += newest_first(home.glob(".nvm/versions/node/*/bin/codex"))
        commands += [home / "node_modules/.bin/codex", Path("/usr/local/bin/codex"), Path("/usr/bin/codex")]
        for command in commands:
            yield command
            yield from native_of(command)


def native_of(command: Path) -> Iterator[Path]:
    """Yield the native executables that the script of an npm installation starts; none if it is no such script."""
    package = Path(os.path.realpath(command)).parent.parent
    if package.name != "codex" or package.parent.name != "@openai":
        return
    for scope in (package / "node_modules/@openai", package.parent):
        for platform in sorted(scope.glob("codex-linux-*")):
            for folder in ("bin", "codex"):
                yield from sorted(platform.glob(_NATIVE.format(folder=folder)))
