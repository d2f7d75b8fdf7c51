"""The rows of ``paths list``: the catalogue with the operator's changes, and the files that match it now.

The files are found by the same walk as the monitor's (monitor.survey), which opens none of them.
"""

import os
from collections import Counter

from msgspec import Struct

from agent_broker.config.document import Config
from agent_broker.config.layout import Layout
from agent_broker.identity.planted import load_planted
from agent_broker.identity.registry import load_registries
from agent_broker.identity.resolution import mounted_by_users
from agent_broker.ids import Uid
from agent_broker.monitor.catalogue import (
    Entry,
    home_of_user,
    ignored_places,
    places_of,
    shipped_catalogue,
    wanted_of,
)
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import State, Wanted, tree_of
from agent_broker.monitor.survey import survey


class Row(Struct, frozen=True):
    """One pattern."""

    entry: Entry
    files: int
    """How many match now, in all homes that are watched."""


class _Count:
    """Counts files by the pattern that they match."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()

    def folder(self, fd: int, path: str, state: State, *, entries: bool) -> bool:  # noqa: ARG002 - the protocol's
        return True

    def file(self, fd: int, path: str, wanted: Wanted) -> None:  # noqa: ARG002 - see above
        self.files[wanted.pattern] += wanted.mark is not None and wanted.mark.role == "credential"

    def is_foreign(self, path: str) -> bool:
        return os.fsencode(path) in mounted_by_users()

    def missing(self, state: State, path: str, why: str) -> None:
        """Nothing to count."""


def rows_of(layout: Layout, config: Config) -> list[Row]:
    """Return a row for each pattern that is watched, in the catalogue's order.

    Raises:
        IntegrityError, MisuseError: the registry or the catalogue has a mistake.
    """
    catalogue = shipped_catalogue().with_extra(config.paths.extra, config.paths.ignore)
    enrolled, planted = load_registries(layout.registries), load_planted(layout.decoys_folder)
    owners = {each.owner_uid for each in enrolled} | {each.owner_uid for each in planted}
    homes = {owner: home for owner in sorted(owners) if (home := home_of_user(owner))}
    places = places_of(catalogue, homes)
    decoys = [file.path for each in enrolled for file in each.decoys] + [each.path for each in planted]
    wanted = [Wanted(path, Mark(path, None, Uid(0), deny=False)) for path in decoys]
    count = _Count()
    survey(tree_of([*wanted, *wanted_of(places, deny=False), *ignored_places(config.paths.ignore, homes)]), count)
    files = Counter[str]()
    for place in places:
        files[place.entry.pattern] += count.files.pop(place.pattern, 0)
    return [Row(entry, files[entry.pattern]) for entry in catalogue.path] if config.paths.enabled else []
