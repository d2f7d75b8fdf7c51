"""One line of the page as it is declared, and as it turned out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.e2e.agents.client import Client

if TYPE_CHECKING:
    from tests.e2e.agents.place import Place

WORKS = "works"
REFUSED = "refused"


class WayRow(Struct, frozen=True):
    """An agent, installed in one layout, logged in in one way."""

    client: Client
    layout: str
    way: str

    @property
    def name(self) -> str:
        """For messages, and to choose it."""
        return f"{self.client.name}, {self.layout}, {self.way}"


class DeedRow(Struct, frozen=True):
    """Something that happens to an enrolled agent, or is done with it."""

    client: Client
    layout: str
    way: str
    what: str
    act: Callable[["Place", Client], str]
    """Does it; returns what came of it, in words; raises StepFailedError if that can't be told."""
    expected: str
    enrolled_anew: bool = False
    """It begins with a home and an enrolment of its own."""

    @property
    def login(self) -> tuple[str, str, str]:
        """What rows that share an enrolment have in common."""
        return self.client.name, self.layout, self.way

    @property
    def name(self) -> str:
        """For messages, and to choose it."""
        return f"{self.client.name}, {self.way}: {self.what}"


class WayOutcome(Struct, frozen=True):
    """What was measured of a way."""

    row: WayRow
    result: str = ""
    """WORKS, or REFUSED with the reason."""
    header: str = ""
    """Where the provider saw the real credential."""
    unenrolled: str = ""
    problem: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether all of it was as it must be."""
        return not self.problem


class DeedOutcome(Struct, frozen=True):
    """What was measured of a deed."""

    row: DeedRow
    result: str = ""
    problem: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it turned out as declared."""
        return not self.problem and self.result == self.row.expected
