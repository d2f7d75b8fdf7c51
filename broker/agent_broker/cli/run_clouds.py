"""What ``agent-broker run claude`` gives Claude Code that is enrolled at a cloud: Bedrock or Vertex AI.

Enrolment wrote address, region, project and the phantom into the ``env`` of the user's settings. Claude that is told
that its provider is managed by the host (cli.run) takes none of these from any settings, the user's or a project's, so
they are put into its environment: nobody's settings lead it elsewhere then.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent_broker.enroll.document import open_document
from agent_broker.errors import AgentBrokerError
from agent_broker.inject.phantom import is_phantom

_SETTINGS: Final = ".claude/settings.json"
_MAX_FILE_BYTES: Final = 10 << 20  # as much as an enrolment edits
_CLOUDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "CLAUDE_CODE_USE_BEDROCK": ("AWS_BEARER_TOKEN_BEDROCK", ("ANTHROPIC_BEDROCK_BASE_URL", "AWS_REGION")),
    "CLAUDE_CODE_USE_VERTEX": (
        "ANTHROPIC_AUTH_TOKEN",
        (
            "ANTHROPIC_VERTEX_BASE_URL",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "CLAUDE_CODE_SKIP_VERTEX_AUTH",
            "CLOUD_ML_REGION",
            "GOOGLE_CLOUD_PROJECT",
        ),
    ),
}
"""By the variable that turns it on: where the phantom is, and what belongs to it (enroll.claude_clouds)."""
_LOCATIONS: Final = "VERTEX_REGION_"
_OFF: Final = frozenset({"", "0", "false", "no", "off"})


def cloud_wiring(home: Path, phantom: str) -> dict[str, str]:
    """Return the variables that lead Claude to its cloud through the broker, with this phantom; empty: it has none.

    The file is its user's: whatever it says, the phantom is worth nothing elsewhere.
    """
    env = _environment(home)
    for switch, (token, names) in _CLOUDS.items():
        if env.get(switch, "").strip().lower() not in _OFF and is_phantom(env.get(token, "")):
            more = {name: value for name, value in env.items() if name in names or name.startswith(_LOCATIONS)}
            return {switch: "1", token: phantom, **more}
    return {}


def _environment(home: Path) -> dict[str, str]:
    try:
        with (home / _SETTINGS).open("rb") as file:
            found = open_document("json", file.read(_MAX_FILE_BYTES)).value
    except (OSError, AgentBrokerError):  # Claude itself complains of such a file
        return {}
    env = found.get("env") if isinstance(found, dict) else None
    return {name: value for name, value in env.items() if isinstance(value, str)} if isinstance(env, dict) else {}
