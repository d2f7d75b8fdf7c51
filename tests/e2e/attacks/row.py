"""One attack as it is declared, and as it turned out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from tests.e2e.attacks.trial import Trial

SECRET = "secret"
"""The attacker could read a real key."""
USE = "use"
"""The provider got a request of the attacker's, with the real key; or the attacker got a signature of an SSH key, or a
tool's server was given its credential, or a token of it."""
OUTAGE = "outage"
"""Neither, but the agent was not served any more."""
NOTHING = "nothing"


CLAUDE = "claude"
CODEX = "codex"
GEMINI = "gemini"
SSH = "ssh"
AGENTS = (CLAUDE, CODEX, GEMINI)


class Row(Struct, frozen=True):
    """One attack, and what it is to get."""

    name: str
    technique: str
    attack: Callable[["Trial"], None]
    """Carries it out; raises if it can't."""
    gets: str = NOTHING
    alert: bool = True
    mitre: str = ""
    """Of MITRE ATT&CK; empty if none fits."""
    stopped_by: str = ""
    """If it gets something: the tier or setting that stops it."""
    agent: str = CLAUDE
    """Or the tool."""
    prepare: Callable[[], None] | None = None
    """Installs what is not of the distribution, before the world is left; raises StepFailedError."""


class Outcome(Struct, frozen=True):
    """What was measured of one attack."""

    row: Row
    gets: str
    alerts: tuple[str, ...]
    """The kinds of the incidents that name it."""
    problem: str = ""
    """Why the attack proved nothing: it did not run."""
    seconds: float = 0.0
    loot: str = ""
    others: tuple[str, ...] = ()
    """Incidents that were raised meanwhile and name nothing of the attack."""

    @property
    def holds(self) -> bool:
        """Whether it turned out as declared."""
        return not self.problem and self.gets == self.row.gets and bool(self.alerts) == self.row.alert
