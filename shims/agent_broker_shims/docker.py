"""docker's credential helper: ``get``, ``store``, ``erase`` or ``list``, the server's address on stdin.

Read from docker 20.10 and 28.2 (github.com/docker/docker-credential-helpers, client and credentials). The address
comes as a host with a port, or as a URL (``https://index.docker.io/v1/``); a login is a server's, whatever the path.
The user name ``<token>`` says that the secret is an identity token.

docker takes any failure of ``get`` for "no login" and goes on without one; the reason is in the broker's journal. What
``store`` and ``erase`` are answered, docker shows to the person.
"""

import json
from collections.abc import Mapping, Sequence

from agent_broker_shims.port import Answer, NotThisProtocolError, Question

TOOL = "docker"
NOT_FOUND = b"credentials not found in native keychain\n"
"""credentials.NewErrCredentialsNotFound: the words that docker knows."""
_KEPT = (
    b"agent-broker keeps this server's login, and docker can't change it; another password: sudo agent-broker login "
    b"docker --host HOST; none any more: sudo agent-broker logout docker --host HOST\n"
)
_MAX_ADDRESS_BYTES = 1024


def question(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
    """Return which server's login is asked for, or the answer at once.

    Raises:
        NotThisProtocolError: none of docker's words, or no address.
    """
    del environment
    if list(arguments) == ["list"]:  # docker asks for all at once in places where none is needed
        return Answer(0, b"{}\n")
    if list(arguments) in (["store"], ["erase"]):
        return Answer(1, _KEPT)
    if list(arguments) != ["get"]:
        raise NotThisProtocolError("docker says get, store, erase or list")
    return Question(destination_of(_address(stdin)))


def answer(asked: Question, username: str, password: bytes) -> bytes:
    """Return what docker reads."""
    server = asked.destination.partition("://")[2]
    return json.dumps({"ServerURL": server, "Username": username, "Secret": password.decode()}).encode() + b"\n"


def not_found(asked: Question) -> Answer:
    """Return what makes docker go on without a login."""
    del asked
    return Answer(1, NOT_FOUND)


def destination_of(address: str) -> str:
    """Return the destination of a server as docker writes it, in ``auths`` too: ``docker://HOST[:PORT]``."""
    host = address.partition("://")[2] if "://" in address else address
    return f"docker://{host.partition('/')[0].lower()}"


def _address(stdin: bytes) -> str:
    try:
        address = stdin.decode().strip()
    except UnicodeDecodeError as error:
        raise NotThisProtocolError("the address is not UTF-8") from error
    if not address or len(stdin) > _MAX_ADDRESS_BYTES or not address.isprintable():
        raise NotThisProtocolError("no server's address")
    return address
