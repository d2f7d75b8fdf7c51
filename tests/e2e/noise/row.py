"""One line of the corpus as it is stated."""

from collections.abc import Callable

from msgspec import Struct

from tests.e2e.noise.world import World


class Row(Struct, frozen=True):
    """A program in normal use, and what is to be told of it."""

    name: str
    act: Callable[[World], None]
    alerts: int = 0
    severity: str = ""
    """Of the one alert; empty: there is none."""
    way_to_allow: str = ""
    """Words of the one line that says how to allow it; looked for once credential paths are watched."""
