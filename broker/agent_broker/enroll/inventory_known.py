"""What root's records say of a home before it is looked at: its decoys, its enrolments, what moved to the vault.

Read-only, and without the lock of a transaction: an enrolment under way shows as it is at this moment. Whoever may not
read a record does without it, and the inventory is the more careful for it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent_broker.enroll.inventory import Knowledge
from agent_broker.enroll.journal import Transaction
from agent_broker.enroll.owner import Owner
from agent_broker.identity.planted import PlantedDecoy, load_planted
from agent_broker.identity.registry import Enrollment, load_registries

_MAX_JOURNALS = 1000


@dataclass(frozen=True)
class Known:
    """The records, as far as the caller may read them."""

    enrolled: tuple[Enrollment, ...]
    planted: tuple[PlantedDecoy, ...]
    planted_hidden: bool
    """There may be planted decoys that the caller must not learn of."""
    transactions: tuple[Transaction, ...]
    paths_watched: bool
    """The monitor watches credential paths at all."""

    def of_home(self, owner: Owner) -> Knowledge:
        """Return what the look at a home must respect."""
        paths = [each.path for each in self.planted]
        paths += [decoy.path for each in self.enrolled for decoy in each.decoys]
        owners = {each.owner_uid for each in self.enrolled} | {each.owner_uid for each in self.planted}
        home = f"{owner.home.rstrip('/')}/"
        return Knowledge(
            decoys=tuple(path for path in paths if path.startswith(home)),
            watched=self.paths_watched and owner.uid in owners,
            hidden_decoys=self.planted_hidden,
        )


def load_known(registries: Iterable[Path], decoys_dir: Path, journal_dir: Path, *, paths_watched: bool) -> Known:
    """Read the records; of tools as of agents, since the decoys of both are watched.

    Raises:
        IntegrityError: somebody else than root could have written one.
        MisuseError: one is not what it should be.
    """
    planted: tuple[PlantedDecoy, ...] = ()
    hidden = False
    try:
        planted = load_planted(decoys_dir)
    except PermissionError:
        hidden = True
    return Known(load_registries(registries), planted, hidden, tuple(_transactions(journal_dir)), paths_watched)


def _transactions(folder: Path) -> Iterator[Transaction]:
    try:
        paths = sorted(folder.glob("*.json"))[:_MAX_JOURNALS]
    except PermissionError:  # root's alone
        return
    for path in paths:
        try:
            yield msgspec.json.decode(path.read_bytes(), type=Transaction)
        except (OSError, msgspec.DecodeError):  # gone meanwhile; a damaged one is for enroll --recover to tell
            continue
