"""One thing that a real client does, as it is declared and as it turned out."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from msgspec import Struct

from tests.e2e.clients.world import PROGRAM, Clients

WORKS = "works"
REFUSED = "refused"


class Row(Struct, frozen=True):
    """See the module."""

    what: str
    who: str
    """One of tests.e2e.clients.world's."""
    command: str
    """For bash; ``{name}`` stands for what the stand says."""
    result: str = WORKS
    says: str = ""
    """What its output has to have in it."""
    environment: Mapping[str, str] = {}
    down: bool = False
    """The broker has ended, and another one starts afterwards."""
    slow: bool = False
    """The broker is stopped (SIGSTOP) meanwhile: it takes connections, and answers none."""
    keeps: str = ""
    """A file of the home that must be as it was before the row."""
    tells: str = ""
    """What an alert of the broker's has to say meanwhile."""


class Stand(Struct):
    """A client at its server, before it is enrolled."""

    client: str
    version: str
    names: dict[str, str]
    """For the rows' commands and rules."""
    secrets: tuple[str, ...]
    """What no output may have in it."""
    served: Callable[[], int]
    """How many requests with the real credential the server has answered so far."""
    files: tuple[str, ...]
    """Below the home, that enrolment touches."""

    def filled(self, text: str) -> str:
        """Return a text with the names filled in."""
        for name, value in self.names.items():
            text = text.replace("{" + name + "}", value)
        return text


class Client(Struct, frozen=True):
    """A client, how its stand is made, and what is measured with it."""

    tool: str
    stand: Callable[[Clients], AbstractContextManager[Stand]]
    rules: str
    """Put in force beside what ``enroll`` writes."""
    rows: tuple[Row, ...]
    options: tuple[str, ...] = ()
    """Of ``enroll``; ``{name}`` stands for what the stand says."""
    down_says: str = ""
    """What a person is shown who uses it while there is no broker; empty: the client shows nothing of it."""
    slow_says: str = ""
    """The same while the broker does not answer."""
    prepare: Callable[[], None] | None = None
    """Installs what is not of the distribution, before the world is left; raises StepFailedError."""
    enroll: Callable[[Clients, Stand], None] | None = None
    """Instead of ``enroll``, for what is no tool of its own; and the next instead of ``unenroll``."""
    unenroll: Callable[[Clients, Stand], None] | None = None
    used: str = "{use}"
    """How it is used once it is enrolled."""
    name: str = ""
    """Of the client, where a tool has several."""

    @property
    def cases(self) -> tuple[Row, ...]:
        """Every row between enrolment and its undoing: its own, and what each client is put through."""
        return (
            *self.rows,
            Row("the broker is down", PROGRAM, self.used, REFUSED, self.down_says, down=True),
            Row("the broker does not answer", PROGRAM, self.used, REFUSED, self.slow_says, slow=True),
        )


class Outcome(Struct, frozen=True):
    """What was measured of one row."""

    client: str
    version: str
    row: Row
    result: str
    problem: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """How it is called in a list."""
        return f"{self.client}: {self.row.what}, by {self.row.who}"

    @property
    def holds(self) -> bool:
        """Whether it turned out as declared."""
        return not self.problem and self.result == self.row.result
