"""What every protocol's module takes and returns."""

from typing import NamedTuple


class Question(NamedTuple):
    """What a client asks for."""

    destination: str
    """Where it will use the credential: ``SCHEME://HOST[:PORT][/PATH]``."""
    username: str = ""
    """Whose credential it wants; empty: anybody's."""
    name: str = ""
    """Of the credential, where the client's own configuration names it; then ``destination`` may be empty."""
    requires: tuple[tuple[str, str], ...] = ()
    """Attributes that the credential must have with exactly these values."""
    form: str = ""
    """How the protocol's module writes the answer."""
    scope: str = ""
    """What a token is wanted for, in the words of whoever mints it."""
    asked_s: int = 0
    """When, in seconds since 1970: told by whoever answers, since no module of a protocol reads a clock."""


class Answer(NamedTuple):
    """What the shim prints and returns. Holds no secret."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


class NotThisProtocolError(ValueError):
    """The request is none of this protocol's. The message quotes nothing of it."""
