"""What the decoy commands share: whose home, which decoy, how long, and where they work."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from agent_broker.cli.enrolling import user_of
from agent_broker.clock import SystemClock
from agent_broker.config.layout import Layout
from agent_broker.enroll.owner import Owner, owner_of
from agent_broker.enroll.plant import NEVER, Garden
from agent_broker.enroll.ports import Watch
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.planted import PlantedDecoy
from agent_broker.monitor.messages import ReloadAnswer

_TIME = re.compile(r"([1-9][0-9]{0,4})([dh])")
_UNIT_NS = {"d": 86_400_000_000_000, "h": 3_600_000_000_000}


class _NobodyToTell:
    """The watch of a garden that only looks."""

    def reload(self) -> ReloadAnswer:
        raise UnavailableError("no broker was asked for")


def garden_of(layout: Layout, watch: Watch, on_step: Callable[[str], None]) -> Garden:
    """Return where and with what decoys are planted."""
    return Garden(
        watch=watch,
        journal_dir=layout.enroll_folder,
        registries=layout.registries,
        decoys_dir=layout.decoys_folder,
        clock=SystemClock(),
        on_step=on_step,
    )


def inert_garden(layout: Layout) -> Garden:
    """Return a garden for looking: it can't tell the daemons anything, so nothing can be planted with it."""
    return garden_of(layout, _NobodyToTell(), lambda _: None)


def owner_of_path(user: str, home: str) -> Owner:
    """Return whose home is meant.

    Raises:
        MisuseError: it is not clear, or there is none.
    """
    return owner_of(user_of(user), Path(home) if home else None)


def lifetime_of(text: str) -> int:
    """Return a time like ``90d`` or ``12h`` in ns; ``never`` is NEVER.

    Raises:
        MisuseError: it is none.
    """
    if text == "never":
        return NEVER
    found = _TIME.fullmatch(text)
    if found is None:
        raise MisuseError("--expires takes days or hours", next_step="for example 90d, 12h, or never")
    return int(found[1]) * _UNIT_NS[found[2]]


def require_decoy_path(path: str, decoys: Iterable[PlantedDecoy]) -> PlantedDecoy:
    """Return the decoy of a path: whole, or as it ends below a home.

    Raises:
        MisuseError: there is none, or several end so.
    """
    found = [each for each in decoys if each.path == path] or [
        each for each in decoys if each.path.endswith(f"/{path}")
    ]
    if not found:
        raise MisuseError("no decoy was planted there", next_step="agent-broker decoy list")
    if len(found) > 1:
        raise MisuseError("several users have a decoy there", next_step="name the whole path, as decoy list shows it")
    return found[0]
