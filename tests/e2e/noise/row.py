"""One line of the corpus as it is stated."""

from collections.abc import Callable

from msgspec import Struct

from tests.e2e.noise.world import World


class Stated(Struct, frozen=True):
    """What is in normal use, and what is to be told of it."""

    name: str
    alerts: int = 0
    severity: str = ""
    """Of each alert; empty: there is none."""

    def difference(self, severities: list[str], told: list[str]) -> str:
        """Return how what was told is not what is stated; empty: it is."""
        if severities == [self.severity] * self.alerts:
            return ""
        return (
            f"{self.name}: {self.alerts} {self.severity} stated, told were {list(zip(severities, told, strict=True))}"
        )


class Row(Stated, frozen=True, kw_only=True):
    """A program, with the monitor alone."""

    act: Callable[[World], None]
    way_to_allow: str = ""
    """Words of the one line that says how to allow it."""


def stated(name: str, act: Callable[[World], None], alerts: int = 0, severity: str = "", way_to_allow: str = "") -> Row:
    """Return a row."""
    return Row(name, alerts, severity, act=act, way_to_allow=way_to_allow)
