"""The ssh-agent protocol (draft-ietf-sshm-ssh-agent, OpenSSH's PROTOCOL.agent): requests in, answers out.

The law: a request is understood in full or refused. Whatever adds, removes or locks keys is not in this protocol's
subset: keys come in by enrolment, as root. A message is at most MAX_MESSAGE_BYTES long.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from agent_broker.ssh.wire import MAX_STRING_BYTES, Reader, WireError, number, string

MAX_MESSAGE_BYTES: Final = 2 * MAX_STRING_BYTES
"""Behind its four bytes of length."""

SESSION_BIND: Final = "session-bind@openssh.com"

FAILURE: Final = 5
SUCCESS: Final = 6
IDENTITIES: Final = 11
IDENTITIES_ANSWER: Final = 12
SIGN: Final = 13
SIGN_RESPONSE: Final = 14
EXTENSION: Final = 27
EXTENSION_FAILURE: Final = 28

RSA_SHA2_256: Final = 2
RSA_SHA2_512: Final = 4


class ListKeys(Struct, frozen=True):
    """SSH_AGENTC_REQUEST_IDENTITIES."""


class SignData(Struct, frozen=True):
    """SSH_AGENTC_SIGN_REQUEST."""

    key: bytes
    """The public key's blob."""
    data: bytes
    flags: int
    """Of RSA_SHA2_256 and RSA_SHA2_512; others have no meaning."""


class Bind(Struct, frozen=True):
    """session-bind@openssh.com: the client says which session this connection is for, with the host's signature."""

    host_key: bytes
    session_id: bytes
    signature: bytes
    is_forwarding: bool


class Unsupported(Struct, frozen=True):
    """A request that is well framed and not in our subset."""

    number: int
    extension: str = ""


Request = ListKeys | SignData | Bind | Unsupported


def decode_request(body: bytes) -> Request:
    """Return a request; ``body`` is the message behind its length.

    Raises:
        WireError: it is none.
    """
    if len(body) > MAX_MESSAGE_BYTES:
        raise WireError(f"a message of {len(body)} bytes, where {MAX_MESSAGE_BYTES} are the most")
    reader = Reader(body)
    kind = reader.byte()
    match kind:
        case 11:
            reader.end()
            return ListKeys()
        case 13:
            request = SignData(reader.string(), reader.string(), reader.number())
            reader.end()
            return request
        case 27:
            return _extension(reader)
    return Unsupported(kind)


def _extension(reader: Reader) -> Request:
    name = reader.text()
    if name != SESSION_BIND:
        return Unsupported(EXTENSION, name)
    bind = Bind(reader.string(), reader.string(), reader.string(), reader.boolean())
    reader.end()
    return bind


def failure() -> bytes:
    """Return SSH_AGENT_FAILURE: all that the protocol has for "no", whatever the reason."""
    return _message(bytes((FAILURE,)))


def success() -> bytes:
    """Return SSH_AGENT_SUCCESS."""
    return _message(bytes((SUCCESS,)))


def extension_failure() -> bytes:
    """Return SSH_AGENT_EXTENSION_FAILURE: the extension is known, and this was refused."""
    return _message(bytes((EXTENSION_FAILURE,)))


def identities(keys: Iterable[tuple[bytes, str]]) -> bytes:
    """Return SSH_AGENT_IDENTITIES_ANSWER; each key is its blob and its comment."""
    entries = [string(blob) + string(comment.encode()) for blob, comment in keys]
    return _message(bytes((IDENTITIES_ANSWER,)) + number(len(entries)) + b"".join(entries))


def signature(blob: bytes) -> bytes:
    """Return SSH_AGENT_SIGN_RESPONSE; ``blob`` is the signature with the name of its algorithm."""
    return _message(bytes((SIGN_RESPONSE,)) + string(blob))


def _message(body: bytes) -> bytes:
    return string(body)
