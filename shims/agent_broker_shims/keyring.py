"""keyring: its command line, as pip and uv call it, and the questions of our backend for the library.

Read from keyring 25 (``keyring.cli``), pip 23 to 26 (``keyring get SERVICE USER``, and ``--mode=creds --output=json get
SERVICE [USER]``) and uv 0.5 to 0.11 (``keyring get SERVICE --mode creds``). The service is an index's URL, then its
host alone. On the command line nothing is set: a terminal there would have to be read.

The backend (keyring_backend/) writes one JSON object on stdin: ``operation`` (get, set, delete), ``service``,
``username`` (null: anybody's) and, to set, ``password``.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from agent_broker_shims.port import Answer, NotThisProtocolError

TOOL = "keyring"
NOT_FOUND = Answer(1)
OPERATIONS = ("get", "set", "delete")
MAX_NAME_CHARACTERS = 1024
"""Of a service's name, and of a user's."""
_REFUSED_OPERATION = Answer(
    1, stderr=b"agent-broker: passwords are set and deleted by keyring's library, not by this command\n"
)
_MODES = {"--mode=password": False, "--mode=creds": True}
_OUTPUTS = {"--output=plain": False, "--output=json": True}


class Asked(NamedTuple):
    """What is asked for, or to be done."""

    operation: str
    """One of OPERATIONS."""
    service: str
    username: str | None = None
    """None: whoever's is there."""
    password: str = ""
    """To be kept."""
    with_username: bool = True
    """The answer names the user too."""
    as_json: bool = True

    def __repr__(self) -> str:
        return f"Asked({self.operation!r})"


def command_line(arguments: Sequence[str]) -> Asked | Answer:
    """Return what ``keyring ARGUMENTS`` asks for, or the answer at once.

    Raises:
        NotThisProtocolError: none of keyring's words.
    """
    words, with_username, as_json = [], False, False
    for each in _joined(arguments):
        if each in _MODES:
            with_username = _MODES[each]
        elif each in _OUTPUTS:
            as_json = _OUTPUTS[each]
        elif each.startswith("-"):
            raise NotThisProtocolError("keyring is asked with --mode and --output")
        else:
            words.append(each)
    operation, *names = words or [""]
    if operation in {"set", "del"}:
        return _REFUSED_OPERATION
    if operation != "get" or len(names) not in {1, 2} or (len(names) == 1 and not with_username):
        raise NotThisProtocolError("keyring get SERVICE USER, or keyring get SERVICE --mode creds")
    return _checked(Asked("get", names[0], names[1] if names[1:] else None, "", with_username, as_json))


def backend(stdin: bytes) -> Asked:
    """Return what the backend asks for.

    Raises:
        NotThisProtocolError: not its JSON.
    """
    try:
        said = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        raise NotThisProtocolError("it is not JSON") from error
    if not isinstance(said, dict):
        raise NotThisProtocolError("it is no JSON object")
    operation, service, username, password = map(said.get, ("operation", "service", "username", "password"))
    if operation not in OPERATIONS or not isinstance(service, str) or not isinstance(username, str | None):
        raise NotThisProtocolError("it has no operation, service and username")
    if (username is None and operation != "get") or isinstance(password, str) != (operation == "set"):
        raise NotThisProtocolError("to set takes a username and a password, to delete a username")
    return _checked(Asked(operation, service, username, password or ""))


def answer(asked: Asked, username: str, password: bytes) -> bytes:
    """Return what the client reads.

    Raises:
        NotThisProtocolError: a line break in them, where lines are read.
    """
    text = password.decode()
    if asked.as_json:
        named = {"username": username} if asked.with_username else {}
        return json.dumps({**named, "password": text}).encode() + b"\n"
    lines = [username, text] if asked.with_username else [text]
    if any(char in each for each in lines for char in "\n\r"):
        raise NotThisProtocolError("the password has a line break, which this output can't hold")
    return "".join(f"{each}\n" for each in lines).encode()


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--mode creds`` as ``--mode=creds``."""
    found: list[str] = []
    for each in arguments:
        if found and found[-1] in {"--mode", "--output"}:
            found[-1] += f"={each}"
        else:
            found.append(each)
    return found


def _checked(asked: Asked) -> Asked:
    for each in (asked.service, asked.username or "", asked.password):
        try:
            each.encode()
        except UnicodeEncodeError as error:
            raise NotThisProtocolError("it is not Unicode") from error
    if not asked.service or max(len(asked.service), len(asked.username or "")) > MAX_NAME_CHARACTERS:
        raise NotThisProtocolError(f"names have 1 to {MAX_NAME_CHARACTERS} characters")
    return asked
