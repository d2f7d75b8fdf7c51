"""Whose home it is: numbers first, since a user may have no entry in the user database."""

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_broker.errors import MisuseError
from agent_broker.ids import Uid

FIRST_UID, LAST_UID = 1000, 60_000
"""People's accounts: UID_MIN and UID_MAX of login.defs(5)."""


@dataclass(frozen=True)
class Owner:
    """A user, with everything needed to act as that user."""

    uid: Uid
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str
    """Absolute, no component a symbolic link."""


def owner_of(user: str, home: Path | None = None) -> Owner:
    """Return the owner of an enrolment.

    Args:
        user: a name, or a number that needs no entry in the user database.
        home: where the agent's files are; None: the user's home by the database.

    Raises:
        MisuseError: no such user, no such home, a home of somebody else, or root: an agent of root's could read the
            vault, so nothing can be isolated from it.
    """
    entry = _entry(user)
    uid = entry.pw_uid if entry is not None else int(user)
    if uid == 0:
        raise MisuseError(
            "an agent that runs as root can't be isolated: root can read the vault",
            next_step="run the agent as an ordinary user, and enroll it for that user",
        )
    if home is None and entry is None:
        raise MisuseError(f"user {user} has no entry in the user database", next_step="give its home with --home")
    place = os.path.realpath(home if home is not None else entry.pw_dir if entry is not None else "/")
    try:
        facts = Path(place).stat()
    except OSError as error:
        raise MisuseError(f"there is no home {place}", next_step="give the right one with --home") from error
    if facts.st_uid != uid:
        raise MisuseError(f"{place} does not belong to user {user}", next_step="check --home and --user")
    if entry is None:
        return Owner(Uid(uid), facts.st_gid, (facts.st_gid,), str(uid), place)
    return Owner(Uid(uid), entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)), entry.pw_name, place)


def everybody() -> Iterator[Owner]:
    """Yield the people of this machine that have a home of their own, each home once."""
    seen = set()
    for entry in pwd.getpwall():
        if not FIRST_UID <= entry.pw_uid <= LAST_UID:
            continue
        try:
            owner = owner_of(str(entry.pw_uid))
        except MisuseError:  # no home, or not his
            continue
        if owner.home not in seen:
            seen.add(owner.home)
            yield owner


def _entry(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        if user.isdecimal() and int(user) < 2**32 - 1:
            return None
        raise MisuseError(f"there is no user {user!r}", next_step="check --user") from error
