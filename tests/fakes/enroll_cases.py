"""What is enrolled in the tests that stop a transaction at each of its steps: one entry a way to hold a credential.

To cover another recipe, add a line: its files before, and the secrets in them. The tests count the steps themselves.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.recipe import Recipe
from tests.fakes.enroll_world import ACCESS, API_KEY, CONFIG, OAUTH, PRIMARY_KEY, REFRESH, SETTINGS


@dataclass(frozen=True)
class Case:
    """One home."""

    recipe: Callable[[Path], Recipe]
    """Given a folder that stands for the system's own configuration."""
    files: Mapping[str, str]
    """By path relative to the home."""
    secrets: tuple[str, ...]


def _claude(system: Path) -> Recipe:
    return ClaudeRecipe(managed_settings=system / "managed-settings.json")


_BACKUP = ".claude/backups/.claude.json.backup.1"
_LOGIN = {".claude/.credentials.json": json.dumps(OAUTH)}
_CONFIGURED = {".claude.json": json.dumps(CONFIG), _BACKUP: json.dumps(CONFIG)}

CASES = {
    "claude, API key in the settings": Case(_claude, {".claude/settings.json": SETTINGS}, (API_KEY,)),
    "claude, API key in the configuration": Case(_claude, _CONFIGURED, (PRIMARY_KEY,)),
    "claude, OAuth login": Case(_claude, _LOGIN, (ACCESS, REFRESH)),
    "claude, all at once": Case(
        _claude,
        {".claude/settings.json": SETTINGS, **_CONFIGURED, **_LOGIN},
        (API_KEY, PRIMARY_KEY, ACCESS, REFRESH),
    ),
}
