"""Hosts as an operator names them, and what known_hosts files say of them. Pure."""

import base64
import binascii
import re
from typing import Final

from msgspec import Struct

from agent_broker.errors import MisuseError
from agent_broker.ssh.binding import fingerprint

_NAMED: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]{1,64})@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:=(?P<key>SHA256:[A-Za-z0-9+/]{43}))?"
)
_DEFAULT_PORT: Final = 22
_FIELDS: Final = 3  # names, kind, key


class NamedHost(Struct, frozen=True):
    """``[USER@]HOST[:PORT][=SHA256:...]``."""

    user: str
    host: str
    """With its port, if that is another than 22."""
    name: str
    """As known_hosts has it: ``[HOST]:PORT`` for another port."""
    fingerprint: str
    """Of the host's key; empty: known_hosts says."""


def named_host(text: str) -> NamedHost:
    """Return the host that an operator named.

    Raises:
        MisuseError: it is none.
    """
    found = _NAMED.fullmatch(text)
    if found is None:
        raise MisuseError("a host is [USER@]HOST[:PORT], or with the fingerprint of its key: HOST=SHA256:...")
    host, port = found["host"].strip("[]").lower(), int(found["port"] or _DEFAULT_PORT)
    is_usual = port == _DEFAULT_PORT
    shown = host if is_usual else f"{host}:{port}"
    return NamedHost(found["user"] or "", shown, host if is_usual else f"[{host}]:{port}", found["key"] or "")


def host_keys_of(lines: bytes) -> tuple[str, ...]:
    """Return the fingerprints in lines of a known_hosts file; marked ones (``@revoked``) and others are left out."""
    found = []
    for line in lines.splitlines():
        fields = line.split()
        if len(fields) < _FIELDS or line.startswith((b"#", b"@")):
            continue
        try:
            found.append(fingerprint(base64.b64decode(fields[2], validate=True)))
        except binascii.Error:
            continue
    return tuple(dict.fromkeys(found))
