"""What ``agent-broker run`` gives agents that find their wiring in their own files: Codex and Gemini.

Codex's is in its settings, and nothing but a cleaned environment is needed. Gemini reads ``~/.gemini/.env`` only if no
``.env`` of a project is found before; what the environment says beats them all, so the wiring is put there. It is
taken from that file, where enrolment wrote it: a phantom, which every process of the user may read.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent_broker.enroll.document import open_document
from agent_broker.errors import MisuseError
from agent_broker.identity.environment import ENROLLED_RUNTIMES, allow, danger
from agent_broker.identity.registry import Allowance
from agent_broker.inject.phantom import is_phantom

GEMINI: Final = "gemini"
_MAX_FILE_BYTES: Final = 1 << 20
_GEMINI_FILE: Final = ".gemini/.env"
_GEMINI_PHANTOMS: Final = ("GEMINI_API_KEY", "GOOGLE_CLOUD_ACCESS_TOKEN")
_GEMINI_WIRING: Final = (*_GEMINI_PHANTOMS, "GOOGLE_GEMINI_BASE_URL", "GOOGLE_GENAI_USE_GCA", "CODE_ASSIST_ENDPOINT")

PAST_THE_BROKER: Final[Mapping[str, frozenset[str]]] = {
    "codex": frozenset({"CODEX_ACCESS_TOKEN", "CODEX_API_KEY", "CODEX_HOME", "OPENAI_API_KEY", "OPENAI_BASE_URL"}),
    GEMINI: frozenset(
        {
            *_GEMINI_WIRING,
            "GEMINI_CLI_HOME",
            "GOOGLE_API_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GOOGLE_VERTEX_BASE_URL",
        }
    ),
}
"""By the name of the command: credentials and addresses that the agent prefers to its wiring, or sends along."""


def other_environment(
    name: str, environment: Mapping[str, str], home: Path, allowed: frozenset[Allowance] = frozenset()
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the environment for one of PAST_THE_BROKER, and the names of the variables that were left out of it.

    Raises:
        MisuseError: Gemini is not enrolled for this user.
    """
    unwanted = PAST_THE_BROKER[name] | {
        each
        for each, value in environment.items()
        if danger(each, ENROLLED_RUNTIMES) and allow(os.fsencode(each), os.fsencode(value)) not in allowed
    }
    kept = {each: value for each, value in environment.items() if each not in unwanted}
    if name == GEMINI:
        kept |= _gemini_wiring(home)
    return kept, tuple(sorted(unwanted & environment.keys()))


def _gemini_wiring(home: Path) -> dict[str, str]:
    try:
        with (home / _GEMINI_FILE).open("rb") as file:
            found = open_document("env", file.read(_MAX_FILE_BYTES)).value
    except OSError:
        found = {}
    wiring: dict[str, str] = {name: str(found[name]) for name in _GEMINI_WIRING if name in found}
    if not any(is_phantom(wiring.get(name, "")) for name in _GEMINI_PHANTOMS):
        raise MisuseError("Gemini is not enrolled for this user", next_step="sudo agent-broker enroll gemini")
    return wiring
