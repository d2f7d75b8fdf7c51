"""Where each built-in agent keeps the settings that decide what it runs: the whole table, one place.

Observed with Claude Code 2.1, Codex 0.169 and Gemini CLI 0.61. What is not here, because it lies in
whatever folder the agent is started in: a project's ``.claude/settings.json``, ``.mcp.json``, ``.gemini`` and ``.env``.
An agent that is enrolled by a recipe has its settings there (``[[settings]]``).
"""

from pathlib import Path
from typing import NamedTuple

from agent_broker.identity.registry import SettingsFile
from agent_broker.ids import AgentName


class _Place(NamedTuple):
    path: str
    """Absolute, or relative to the home."""
    format: str
    hot: bool = False


_PLACES: dict[str, tuple[_Place, ...]] = {
    "claude": (
        _Place(".claude/settings.json", "json"),
        _Place(".claude/settings.local.json", "json"),
        _Place(".claude.json", "json", hot=True),
        _Place("/etc/claude-code/managed-settings.json", "json"),
        _Place("/etc/claude-code/managed-mcp.json", "json"),
    ),
    "codex": (
        _Place(".codex/config.toml", "toml"),
        _Place(".codex/hooks.json", "json"),
        _Place(".codex/.env", "env"),
        _Place("/etc/codex/config.toml", "toml"),
    ),
    "gemini": (
        _Place(".gemini/settings.json", "json"),
        _Place(".gemini/.env", "env"),
        _Place(".gemini/trustedFolders.json", "json"),
        _Place("/etc/gemini-cli/settings.json", "json"),
    ),
}


def settings_of(agent: AgentName, home: str) -> tuple[SettingsFile, ...]:
    """Return the settings files of an agent whose owner has this home; none of an agent that is not in the table."""
    return tuple(_file(each, home) for each in _PLACES.get(agent, ()))


def _file(place: _Place, home: str) -> SettingsFile:
    path = str(Path(home) / place.path)  # an absolute place stays itself
    match place.format:
        case "toml":
            return SettingsFile(path, "toml", place.hot)
        case "env":
            return SettingsFile(path, "env", place.hot)
        case _:
            return SettingsFile(path, "json", place.hot)
