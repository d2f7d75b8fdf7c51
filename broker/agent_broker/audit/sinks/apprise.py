"""Incidents to people, by whatever the PyPI library ``apprise`` reaches: mail, chat, pagers; one sink an address.

The law of this module: an address holds secrets. It is read from a file of root's, kept out of every message, status
and log (the library's own logger is silenced), and handed to nobody but the library. A person is told of an incident
once, and again only when it grew in severity. The library blocks, so each message is sent in a thread of its own; one
that hangs is left to itself, and until it ends this sink sends nothing more, so there is never more than one.

The library runs in the broker's own process. Who does not want the clients of many vendors beside the vault leaves it
out (it is not installed by default) and uses OTLP or the journal.
"""

import asyncio
import importlib
import logging
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from agent_broker.audit.sinks.private_file import private_lines
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.monitor.incident import SEVERITIES, Incident

MAX_ADDRESSES: Final = 16
MAX_LINE_CHARS: Final = 300  # six lines of that stay below what the strictest chats take (some 2,000)
_TOLD = 4_096  # incidents of which is remembered how severe they were when they were told
_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}  # apprise.NotifyType
_LOGGERS = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib")


class AppriseSink:
    """Implements sinks.port.Sink on one address."""

    def __init__(self, library: Any, *, severity: str, name: str) -> None:
        """Use an ``apprise.Apprise`` that holds one address."""
        self.name = name
        self.severity = severity
        self._library = library
        self._is_sending = False
        self._told: OrderedDict[str, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"AppriseSink({self.name!r})"

    async def deliver(self, incident: Incident, number: int) -> None:  # noqa: ARG002 - Sink's
        """See Sink."""
        rank = SEVERITIES.index(incident.severity) if incident.severity in SEVERITIES else len(SEVERITIES)
        if self._told.get(incident.id, -1) >= rank:
            return
        if self._is_sending:
            raise UnavailableError("an earlier message still hangs", next_step="look at the service it goes to")
        if not await self._send(incident, rank):
            raise UnavailableError("the service did not take the message", next_step="look at the service it goes to")

    async def close(self) -> None:
        """Leave a message that hangs to itself: its thread ends with the process."""

    async def _send(self, incident: Incident, rank: int) -> bool:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def tell(*, is_sent: bool) -> None:
            self._is_sending = False
            if is_sent:  # also when nobody waits any more: then the next try finds that it was told
                self._remember(incident.id, rank)
            if not answer.done():
                answer.set_result(is_sent)

        def send() -> None:
            try:
                is_sent = bool(self._library.notify(**message_of(incident)))
            except Exception:  # noqa: BLE001 - whatever a vendor's client raises; its text may quote the address
                is_sent = False
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: tell(is_sent=is_sent))

        self._is_sending = True
        threading.Thread(target=send, name=f"sink {self.name}", daemon=True).start()
        return await answer

    def _remember(self, id: str, rank: int) -> None:  # noqa: A002 - an incident's
        self._told[id] = rank
        if len(self._told) > _TOLD:
            self._told.popitem(last=False)


def message_of(incident: Incident) -> dict[str, str]:
    """Return title, body and type: short, plain text, and what to do next."""
    lines = [incident.what]
    if incident.path:
        lines.append(f"path: {incident.path}")
    if incident.agent:
        lines.append(f"agent: {incident.agent}")
    lines.append(f"done: {incident.action}{'; ' + incident.response if incident.response else ''}")
    if incident.next_step:
        lines.append(f"next: {incident.next_step}")
    lines.append(f"agent-broker alert show {incident.id}")
    return {
        "title": f"agent-broker, {incident.severity}: {incident.kind.replace('-', ' ')}",
        "body": "\n".join(_cut(line) for line in lines),
        "notify_type": _TYPES.get(incident.severity, "failure"),
        "body_format": "text",
    }


def _cut(line: str) -> str:
    """A service may refuse what is long, for ever; what is cut is in the alert log."""
    text = line.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_LINE_CHARS else f"{text[:MAX_LINE_CHARS]} ..."


def apprise_sinks(urls_file: Path, severity: str) -> tuple[AppriseSink, ...]:
    """Return a sink for each address (one a line) of a file; see private_file for who may own it.

    Call it as root: the file and the library's modules are read now.

    Raises:
        MisuseError: the library is not installed, or a line is no address that it knows.
        IntegrityError: others can read the file.
    """
    lines = private_lines(urls_file, "[alerts.apprise] urls_file")
    if not lines or len(lines) > MAX_ADDRESSES:
        raise MisuseError(f"{urls_file} must hold 1 to {MAX_ADDRESSES} addresses, one a line")
    library = _load()
    sinks = []
    for position, (number, url) in enumerate(lines, 1):
        one = library.Apprise(asset=library.AppriseAsset(async_mode=False, secure_logging=True))
        if not _add(one, url):
            raise MisuseError(
                f"{urls_file}:{number}: this line is not an address that apprise knows",
                next_step="see the list of services in apprise's documentation",
            )
        sinks.append(AppriseSink(one, severity=severity, name=f"apprise-{position}"))
    return tuple(sinks)


def _load() -> Any:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.CRITICAL + 1)
    try:
        return importlib.import_module("apprise")
    except ImportError as error:
        raise MisuseError(
            "[alerts.apprise] needs the Python package apprise", next_step="pip install 'agent-broker[apprise]'"
        ) from error


def _add(library: Any, url: str) -> bool:
    with warnings.catch_warnings():  # its plugins are imported at the first address, some by deprecated modules
        warnings.simplefilter("ignore")
        return bool(library.add(url))
