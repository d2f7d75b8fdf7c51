"""Names of users and groups into numbers; root is never among them."""

import grp
import pwd

from msgspec import Struct

from agent_broker.config.document import Account, Daemon
from agent_broker.errors import MisuseError
from agent_broker.ids import Uid


class BrokerAccount(Struct, frozen=True):
    """Whom the broker becomes."""

    uid: Uid
    gid: int


def broker_account(daemon: Daemon) -> BrokerAccount:
    """Return the numbers of ``[daemon] user`` and ``group``.

    A number needs no entry in the user database.

    Raises:
        MisuseError: no such name, or it is root's.
    """
    account = BrokerAccount(uid=user_id(daemon.user), gid=_group_id(daemon.group))
    if account.uid == 0 or account.gid == 0:
        raise MisuseError("[daemon] user and group must not be root's: the broker needs no privilege")
    return account


def user_id(user: Account) -> Uid:
    """Return a user's number.

    Raises:
        MisuseError: there is no such user.
    """
    if isinstance(user, int):
        return Uid(user)
    try:
        return Uid(pwd.getpwnam(user).pw_uid)
    except KeyError as error:
        raise MisuseError(
            f"there is no user {user!r}",
            next_step="create it (useradd --system --user-group --no-create-home NAME) or set [daemon] user",
        ) from error


def _group_id(group: Account) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise MisuseError(
            f"there is no group {group!r}", next_step="create it (groupadd --system NAME) or set [daemon] group"
        ) from error
