"""The variables of a user's systemd manager, which every unit of the session gets: names and kinds, never a value.

Asked for on the session's bus, as the user: nobody else is let in. What the bus answers is the user's own word.
"""

import os
import stat
from collections.abc import Iterator

from jeepney import DBusAddress, MessageType, Properties
from jeepney.io.blocking import open_dbus_connection

from agent_broker.enroll.inventory_content import Item
from agent_broker.enroll.inventory_values import kind_of_value

_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
)  # org.freedesktop.systemd1(5)
_ANSWER_S = 3.0
_MAX_VARIABLES = 1000


def session_items(bus: str, phantom_prefix: str) -> Iterator[Item]:
    """Yield the credentials in the manager's environment; none if there is no such bus, or no manager on it.

    Args:
        bus: the bus's socket, ``/run/user/UID/bus``.
        phantom_prefix: how a phantom begins.
    """
    for text in _environment(bus)[:_MAX_VARIABLES]:
        name, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        kind = kind_of_value(name, value, phantom_prefix) if equals else ""
        if kind and name.isascii() and name.isidentifier():
            yield Item(name[:128], 0, kind, name)


def _environment(bus: str) -> list[object]:
    try:
        if not stat.S_ISSOCK(os.lstat(bus).st_mode):
            return []
        with open_dbus_connection(f"unix:path={bus}", auth_timeout=_ANSWER_S) as connection:
            reply = connection.send_and_get_reply(Properties(_MANAGER).get("Environment"), timeout=_ANSWER_S)
    except (OSError, ValueError):  # no session, no answer in time, or what answers is no bus
        return []
    if reply.header.message_type is not MessageType.method_return or not reply.body:
        return []
    kind, value = reply.body[0]
    return value if kind == "as" else []
