"""Incidents as notifications of a desktop: org.freedesktop.Notifications on a user's session bus.

Why this is not a sink inside the broker: a session bus lets only its own user in. dbus-daemon refuses everybody else,
root too (tried: EXTERNAL as root or as another user ends without an answer), so neither the broker nor the monitor can
reach it without a process that becomes the user. A privileged one that does, for text that an attacker chose, would be
a new way to attack root, for a convenience. So the user runs the follower himself (``agent-broker notify``, from his
session): it has no privilege, reads the read-only socket as a member of the broker's group, and its backlog is the
broker's alert log. Whoever runs as that user can silence or imitate it; the alert is safe in the log.

Interface: https://specifications.freedesktop.org/notification-spec/1.2/.
"""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from jeepney import DBusAddress, new_method_call
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket
from jeepney.low_level import Message, MessageType

from agent_broker.errors import UnavailableError
from agent_broker.monitor.incident import Incident

MAX_BODY_CHARS: Final = 800
_ADDRESS = DBusAddress(
    "/org/freedesktop/Notifications",
    bus_name="org.freedesktop.Notifications",
    interface="org.freedesktop.Notifications",
)
_URGENCY = {"info": 0, "warning": 1, "critical": 2}
_STAY, _AS_THE_SERVER_LIKES = 0, -1  # expire_timeout
_TIMEOUT_S = 10.0
_SHOWN = 256  # notifications that a revision can still take the place of


class Desktop:
    """The notifications of one session. One thread at a time; it blocks."""

    def __init__(self, bus_address: str) -> None:
        """Touch nothing yet; ``bus_address`` is what DBUS_SESSION_BUS_ADDRESS holds."""
        self._bus_address = bus_address
        self._connection: DBusConnection | None = None
        self._shows_markup = False
        self._shown: dict[str, int] = {}

    def show(self, incident: Incident) -> None:
        """Show an incident; a revision takes the place of what was shown of it before.

        Raises:
            UnavailableError: no bus, or nobody shows notifications there; it may be shown again later.
        """
        summary = f"agent-broker, {incident.severity}: {incident.kind.replace('-', ' ')}"
        lines = [incident.what]
        if incident.next_step:
            lines.append(incident.next_step)
        lines.append(f"agent-broker alert show {incident.id}")
        replaced = self._shown.pop(incident.id, 0)
        self._shown[incident.id] = self.notify(summary, "\n".join(lines), incident.severity, replaced)
        while len(self._shown) > _SHOWN:
            del self._shown[next(iter(self._shown))]

    def notify(self, summary: str, body: str, severity: str, replaces: int = 0) -> int:
        """Show a text and return its number.

        Raises:
            UnavailableError: as ``show``.
        """
        try:
            return self._notify(summary, body, severity, replaces)
        except UnavailableError:
            self.close()
            raise
        except Exception as error:  # what the library raises has no common base
            self.close()
            raise UnavailableError(
                f"the desktop shows no notification: {type(error).__name__}",
                next_step="run it in the session whose desktop it is (DBUS_SESSION_BUS_ADDRESS)",
            ) from error

    def close(self) -> None:
        """Leave the bus. Twice is fine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _notify(self, summary: str, body: str, severity: str, replaces: int) -> int:
        if self._connection is None:
            self._connection = _connect(self._bus_address)
            (capabilities,) = self._call("GetCapabilities")
            self._shows_markup = "body-markup" in capabilities
        urgency = _URGENCY.get(severity, _URGENCY["critical"])
        arguments: tuple[Any, ...] = (
            "agent-broker",
            replaces,
            "dialog-warning",
            summary,
            self._plain(body),
            [],
            {"urgency": ("y", urgency), "category": ("s", "device.error")},
            _STAY if urgency == _URGENCY["critical"] else _AS_THE_SERVER_LIKES,
        )
        (number,) = self._call("Notify", "susssasa{sv}i", arguments)
        return int(number)

    def _plain(self, body: str) -> str:
        """An attacker chose some of the text: it must not become markup, nor fill the screen."""
        text = body if len(body) <= MAX_BODY_CHARS else f"{body[:MAX_BODY_CHARS]} ..."
        text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "")
        return escape(text, quote=False) if self._shows_markup else text

    def _call(self, method: str, signature: str | None = None, arguments: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        if self._connection is None:
            raise UnavailableError("there is no connection to the session bus")
        message = new_method_call(_ADDRESS, method, signature, arguments)
        answer = self._connection.send_and_get_reply(message)
        if answer.header.message_type is MessageType.error:
            raise UnavailableError(
                "nobody shows notifications on this session's bus", next_step="start the desktop's notification service"
            )
        return tuple(answer.body)


class _Connection(DBusConnection):  # type: ignore[misc] # jeepney has no types
    """A connection whose every call ends, the first one (Hello) included."""

    def send_and_get_reply(self, message: Message, *, timeout: float | None = None) -> Message:
        """See DBusConnection."""
        return super().send_and_get_reply(message, timeout=_TIMEOUT_S if timeout is None else timeout)


def _connect(bus_address: str) -> _Connection:
    connected = prep_socket(get_bus(bus_address), timeout=_TIMEOUT_S)
    try:
        return _Connection(connected)
    except BaseException:
        connected.close()
        raise


def session_bus(environment: Mapping[str, str], uid: int) -> str:
    """Return the address of a user's session bus: what his session says, else where systemd puts it."""
    return environment.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path=/run/user/{uid}/bus"
