"""What a key is asked to sign: a login, or a signature over a file. The law: what is neither is never signed.

A login names its session (RFC 4252 section 7, OpenSSH's PROTOCOL 1.8 for the host-bound form), so that a signature is
good for that one session with that one host. A file's signature (PROTOCOL.sshsig) begins with its own magic word,
which no session's identifier can be: its length would be 0x53534853. Certificates, and blobs that a program makes up,
are neither.
"""

from typing import Final

from msgspec import Struct

from agent_broker.ssh.wire import Reader, WireError

_USERAUTH_REQUEST: Final = 50
_PUBLIC_KEY: Final = "publickey"
_HOST_BOUND: Final = "publickey-hostbound-v00@openssh.com"
_MAGIC: Final = b"SSHSIG"
_MIN_SESSION_BYTES: Final = 16  # a hash of the key exchange; the shortest in use, SHA-1's, has 20


class Login(Struct, frozen=True):
    """A login to a host."""

    session_id: bytes
    user: str
    """On the host."""
    key: bytes
    """The public key's blob, as the login names it."""
    host_key: bytes | None
    """The host's, if the client names it in the signed text; None: it does not."""


class FileSignature(Struct, frozen=True):
    """A signature over a file's digest, for whoever checks the namespace."""

    namespace: str
    """What the signature is for: ``git``, ``file``."""


def decode_signed(data: bytes) -> Login | FileSignature:
    """Return what signing these bytes would mean.

    Raises:
        WireError: nothing that is known.
    """
    return _file_signature(data) if data.startswith(_MAGIC) else _login(data)


def _login(data: bytes) -> Login:
    reader = Reader(data)
    session_id = reader.string()
    if len(session_id) < _MIN_SESSION_BYTES or reader.byte() != _USERAUTH_REQUEST:
        raise WireError("what is to be signed is neither a login nor a file's signature")
    user, service, method = reader.text(), reader.text(), reader.text()
    if service != "ssh-connection" or method not in {_PUBLIC_KEY, _HOST_BOUND} or not reader.boolean():
        raise WireError("what is to be signed is a login of another kind")
    reader.string()  # the algorithm, which the flags of the request decide
    key = reader.string()
    host_key = reader.string() if method == _HOST_BOUND else None
    reader.end()
    return Login(session_id, user, key, host_key)


def _file_signature(data: bytes) -> FileSignature:
    reader = Reader(data[len(_MAGIC) :])
    namespace = reader.text()
    if not namespace or reader.string():
        raise WireError("a file's signature without a namespace, or with something reserved")
    if reader.text() not in {"sha256", "sha512"}:
        raise WireError("a file's signature over another digest than SHA-256 and SHA-512")
    reader.string()
    reader.end()
    return FileSignature(namespace)
