"""A client whose file becomes a view: enrolled and undone by the file's path, not by a tool's name."""

from tests.e2e.clients.row import Stand
from tests.e2e.clients.world import Clients


def enroll(clients: Clients, stand: Stand) -> None:
    """Make the stand's ``{file}`` a view for ``{for}``."""
    _broker(clients, "enroll", stand, *stand.names["for"].split())


def unenroll(clients: Clients, stand: Stand) -> None:
    """Put it back."""
    _broker(clients, "unenroll", stand)


def _broker(clients: Clients, command: str, stand: Stand, *options: str) -> None:
    whose = ("--user", clients.world.user.pw_name, "--home", str(clients.home), "--yes")
    clients.broker(command, "--file", str(clients.home / stand.names["file"]), *options, *whose)
