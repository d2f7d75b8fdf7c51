"""Real key pairs, generated here and trusted nowhere."""

import base64
import secrets
import struct

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_RSA_BITS = 2048  # as Google issues them
_RSA_EXPONENT = 65537
_SSH_RSA_BITS = 3072  # ssh-keygen's default
_CURVES = {
    "ecdsa-sha2-nistp256": ec.SECP256R1(),
    "ecdsa-sha2-nistp384": ec.SECP384R1(),
    "ecdsa-sha2-nistp521": ec.SECP521R1(),
}
_LINE_CHARS = 70  # ssh-keygen's own
_BLOCK_BYTES = 8  # of the cipher "none", PROTOCOL.key


def rsa_private_key() -> str:
    """Return a fresh RSA key in PKCS#8 PEM, as in a service account's JSON; takes some 0.1 s."""
    key = generate_private_key(_RSA_EXPONENT, _RSA_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def ssh_private_key(comment: str) -> str:
    """Return a fresh ed25519 key in OpenSSH's own format (PROTOCOL.key), without a passphrase, its comment in it."""
    key = Ed25519PrivateKey.generate()
    private, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    name = b"ssh-ed25519"
    public_blob = _string(name) + _string(public)
    check = secrets.token_bytes(4) * 2
    secret = check + public_blob + _string(private + public) + _string(comment.encode())
    secret += bytes(range(1, 1 + -len(secret) % _BLOCK_BYTES))
    head = b"openssh-key-v1\0" + _string(b"none") * 2 + _string(b"") + struct.pack(">I", 1)
    text = base64.b64encode(head + _string(public_blob) + _string(secret)).decode()
    lines = (text[at : at + _LINE_CHARS] for at in range(0, len(text), _LINE_CHARS))
    return "\n".join(("-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""))


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def private_key_like(text: bytes, algorithm: str, comment: str) -> str:
    """Return a fresh key as another private key's file has it: the same kind, the same container, no passphrase.

    Args:
        text: the file.
        algorithm: of the key, as its public half begins: ``ssh-rsa``.
        comment: for the containers that have one.
    """
    if algorithm == "ssh-ed25519":
        return ssh_private_key(comment)
    container = PrivateFormat.PKCS8
    if b"BEGIN OPENSSH" in text:
        container = PrivateFormat.OpenSSH
    elif b"BEGIN RSA" in text or b"BEGIN EC" in text:
        container = PrivateFormat.TraditionalOpenSSL
    curve = _CURVES.get(algorithm)
    key = generate_private_key(_RSA_EXPONENT, _SSH_RSA_BITS) if curve is None else ec.generate_private_key(curve)
    made = key.private_bytes(Encoding.PEM, container, NoEncryption()).decode()
    return _wrapped(made) if container is PrivateFormat.OpenSSH else made


def _wrapped(text: str) -> str:
    """Return a key with the length of lines that ssh-keygen gives it."""
    first, *body, last = text.splitlines()
    whole = "".join(body)
    lines = (whole[at : at + _LINE_CHARS] for at in range(0, len(whole), _LINE_CHARS))
    return "\n".join((first, *lines, last, ""))
