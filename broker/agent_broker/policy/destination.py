"""Where a tool is about to use a credential: a server, or a part of it. Pure.

The law: a destination that could be read in two ways is none. A path with ``.`` or ``..``, an empty part, a backslash,
a percent sign or a control character would be another one after a client's or a server's clean-up, so it is refused.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from agent_broker.errors import MisuseError

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_PORTS: Final = {"http": 80, "https": 443, "ssh": 22}
_UNCLEAR: Final = re.compile(r"[\x00-\x20\x7f\\%?#]")
_MAX_CHARACTERS: Final = 2048


class Destination(Struct, frozen=True):
    """A server and a path on it."""

    scheme: str
    host: str
    port: int
    """0: the scheme has no usual one, and none was given."""
    path: tuple[str, ...] = ()
    """Its parts; none: the whole server."""

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Return what ``SCHEME://HOST[:PORT][/PATH]`` names; a path's final ``/`` or ``.git`` says nothing.

        Raises:
            MisuseError: it is none, or could be read in two ways; the message does not quote it.
        """
        if len(text) > _MAX_CHARACTERS or _UNCLEAR.search(text):
            raise MisuseError("a destination is SCHEME://HOST[:PORT][/PATH], with none of: \\ % ? # and spaces")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise MisuseError("a destination is SCHEME://HOST[:PORT][/PATH]") from error
        host = parts.netloc.lower().removesuffix(f":{port}") if port is not None else parts.netloc.lower()
        if not _SCHEME.fullmatch(parts.scheme) or not _HOST.fullmatch(host):
            raise MisuseError("a destination is SCHEME://HOST[:PORT][/PATH], without a user's name")
        return cls(parts.scheme, host, port or _PORTS.get(parts.scheme, 0), _parts_of(parts.path))

    @property
    def server(self) -> "Destination":
        """The whole server."""
        return Destination(self.scheme, self.host, self.port)

    def covers(self, other: "Destination") -> bool:
        """Return whether another one is this, or lies below it."""
        return self.server == other.server and other.path[: len(self.path)] == self.path

    def __str__(self) -> str:
        port = "" if self.port in {0, _PORTS.get(self.scheme)} else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}" + "".join(f"/{part}" for part in self.path)


def _parts_of(path: str) -> tuple[str, ...]:
    trimmed = path.removeprefix("/").removesuffix("/").removesuffix(".git")
    if not trimmed:
        return ()
    parts = tuple(trimmed.split("/"))
    if not all(parts) or {".", ".."} & set(parts):
        raise MisuseError("a destination's path has no empty parts, and none that is . or ..")
    return parts
