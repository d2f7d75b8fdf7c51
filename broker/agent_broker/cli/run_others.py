"""What ``agent-broker run`` gives agents that find their wiring in their own files: Codex and Gemini.

Codex's is in its settings, and nothing but a cleaned environment is needed. Gemini reads ``~/.gemini/.env`` only if no
``.env`` of a project is found before; what the environment says beats them all, so the wiring is put there. It is
taken from that file, where enrolment wrote it: a phantom, which every process of the user may read.

With ``--as`` both get the phantom of that account in their environment. Codex is told the variable's name by an option,
since its settings name none: a provider's ``env_key`` beats the token in them. Gemini speaks another protocol with a
login than with a key, and its settings say which: if the account is of the other sort than the enrolled one, a file of
root's stands in for the operator's settings, which beat the user's; if there are such, the answer is no.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_broker.enroll.codex_survey import PROVIDER
from agent_broker.enroll.document import open_document
from agent_broker.errors import MisuseError
from agent_broker.identity.environment import ENROLLED_RUNTIMES, allow, danger
from agent_broker.identity.registry import Allowance
from agent_broker.inject.phantom import is_phantom

CODEX: Final = "codex"
GEMINI: Final = "gemini"
VARIABLE: Final = "AGENT_BROKER_PHANTOM"
"""Holds the phantom of the account that is meant."""
WAYS: Final = Path(__file__).parents[1] / "enroll/gemini_ways"
"""Settings of Gemini's, a file a way: nothing but which way it is."""
OPERATORS: Final = Path("/etc/gemini-cli")
_MAX_FILE_BYTES: Final = 1 << 20
_GEMINI_FILE: Final = ".gemini/.env"
_KEY, _TOKEN, _VERTEX_KEY = "GEMINI_API_KEY", "GOOGLE_CLOUD_ACCESS_TOKEN", "GOOGLE_API_KEY"
_KEY_ADDRESS, _TOKEN_ADDRESS = "GOOGLE_GEMINI_BASE_URL", "CODE_ASSIST_ENDPOINT"
_GEMINI_PHANTOMS: Final = (_KEY, _TOKEN, _VERTEX_KEY)
_GEMINI_WIRING: Final = (
    *_GEMINI_PHANTOMS,
    _KEY_ADDRESS,
    "GOOGLE_GENAI_USE_GCA",
    _TOKEN_ADDRESS,
    "GOOGLE_VERTEX_BASE_URL",
    "GOOGLE_GENAI_USE_VERTEXAI",
)
_GEMINI_SYSTEM: Final = ("GEMINI_CLI_SYSTEM_SETTINGS_PATH", "GEMINI_CLI_SYSTEM_DEFAULTS_PATH")

PAST_THE_BROKER: Final[Mapping[str, frozenset[str]]] = {
    CODEX: frozenset(
        {"CODEX_ACCESS_TOKEN", "CODEX_API_KEY", "CODEX_HOME", "OPENAI_API_KEY", "OPENAI_BASE_URL", VARIABLE}
    ),
    GEMINI: frozenset(
        {
            *_GEMINI_WIRING,
            "GEMINI_CLI_HOME",
            "GOOGLE_APPLICATION_CREDENTIALS",
        }
    ),
}
"""By the name of the command: credentials and addresses that the agent prefers to its wiring, or sends along."""


@dataclass(frozen=True)
class Chosen:
    """The account that ``--as`` names."""

    phantom: str
    is_login: bool


def options(name: str) -> tuple[str, ...]:
    """Return what comes before the arguments of one of PAST_THE_BROKER if an account is named: never a phantom."""
    return ("-c", f'model_providers.{PROVIDER}.env_key="{VARIABLE}"') if name == CODEX else ()


def other_environment(
    name: str,
    environment: Mapping[str, str],
    home: Path,
    allowed: frozenset[Allowance] = frozenset(),
    chosen: Chosen | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the environment for one of PAST_THE_BROKER, and the names of the variables that were left out of it.

    Raises:
        MisuseError: Gemini is not enrolled for this user, or can't be led to the chosen account.
    """
    unwanted = PAST_THE_BROKER[name] | {
        each
        for each, value in environment.items()
        if danger(each, ENROLLED_RUNTIMES) and allow(os.fsencode(each), os.fsencode(value)) not in allowed
    }
    kept = {each: value for each, value in environment.items() if each not in unwanted}
    if name == GEMINI:
        wiring = _gemini_wiring(home)
        kept |= wiring if chosen is None else _gemini_account(wiring, chosen, kept)
    elif chosen is not None:
        kept[VARIABLE] = chosen.phantom
    return kept, tuple(sorted(unwanted & environment.keys()))


def _gemini_account(wiring: Mapping[str, str], chosen: Chosen, kept: Mapping[str, str]) -> dict[str, str]:
    """Return what leads Gemini to one account, whichever way it takes: its own files would give it another one's."""
    address = wiring.get(_TOKEN_ADDRESS) or wiring.get(_KEY_ADDRESS, "")
    if not address:
        raise MisuseError("Gemini uses Vertex AI here, where it has one account", next_step="run it without --as")
    made = {_KEY: chosen.phantom, _KEY_ADDRESS: address, _TOKEN: chosen.phantom, _TOKEN_ADDRESS: address}
    if chosen.is_login:
        made["GOOGLE_GENAI_USE_GCA"] = "true"
    if chosen.is_login == (_TOKEN in wiring):
        return made
    operators = OPERATORS / "settings.json"
    if _GEMINI_SYSTEM[0] in kept or os.path.lexists(operators):
        raise MisuseError(
            f"this account is of the other sort than the enrolled one, and {operators} decides what Gemini uses",
            next_step="use an account of the same sort (login or key)",
        )
    settings = WAYS / ("oauth-personal.json" if chosen.is_login else "gemini-api-key.json")
    defaults = kept.get(_GEMINI_SYSTEM[1], str(OPERATORS / "system-defaults.json"))
    return {**made, _GEMINI_SYSTEM[0]: str(settings), _GEMINI_SYSTEM[1]: defaults}


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
