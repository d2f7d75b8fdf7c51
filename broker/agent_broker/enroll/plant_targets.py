"""Which places of a home are good ones for a decoy: where a thief looks, and nothing of the user's is.

Nothing is opened, so no watch wakes; a place is known by what stat says of it.
"""

from dataclasses import dataclass

from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plant import Garden
from agent_broker.enroll.user_files import UserFiles
from agent_broker.honeytoken.kinds import KINDS, Kind
from agent_broker.identity.planted import load_planted
from agent_broker.identity.registry import load_registries

_TAKEN = "is there already"


@dataclass(frozen=True)
class Target:
    """One kind at its default path."""

    kind: Kind
    path: str
    """Absolute."""
    fits: bool
    why: str


def find_targets(owner: Owner, garden: Garden) -> tuple[Target, ...]:
    """Return one target a kind.

    Raises:
        MisuseError: the home is not one.
        UnavailableError: the process that acts as the user does not answer.
    """
    taken = {each.path for each in load_planted(garden.decoys_dir)}
    taken |= {decoy.path for each in load_registries(garden.registries) for decoy in each.decoys}
    with UserFiles(owner) as files:
        return tuple(_target(kind, files, taken) for kind in KINDS)


def _target(kind: Kind, files: UserFiles, taken: set[str]) -> Target:
    path = files.absolute(kind.default_path)
    folder = kind.default_path.rpartition("/")[0] or "."
    sign = kind.sign_of_use or folder
    if path in taken:
        return Target(kind, path, fits=False, why=f"~/{kind.default_path} holds a decoy already")
    if sign != "." and files.look(sign) is None:
        return Target(kind, path, fits=False, why=f"its tool is not in use: no ~/{sign}")
    if files.look(kind.default_path) is not None:
        return Target(kind, path, fits=False, why=f"~/{kind.default_path} {_TAKEN}")
    return Target(kind, path, fits=True, why="nothing is there")
