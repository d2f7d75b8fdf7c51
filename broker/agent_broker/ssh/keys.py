"""Key pairs: what may be one, its public blob, and its signatures. Pure; the cryptography is ``cryptography``'s.

Ed25519, RSA (2048 bits and more) and ECDSA over the three NIST curves. RSA signs with SHA-2 only: SHA-1 (``ssh-rsa``)
is what no flag asks for, and OpenSSH 8.8 and newer take it from nobody.
"""

import base64
import binascii
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from agent_broker.errors import MisuseError
from agent_broker.ssh.messages import RSA_SHA2_256, RSA_SHA2_512
from agent_broker.ssh.wire import Reader, WireError, integer, string

PrivateKey = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey

MIN_RSA_BITS: Final = 2048
_CURVES: Final = {
    "nistp256": hashes.SHA256(),
    "nistp384": hashes.SHA384(),
    "nistp521": hashes.SHA512(),
}  # RFC 5656 section 6.2.1
_CURVE_NAMES: Final = {"secp256r1": "nistp256", "secp384r1": "nistp384", "secp521r1": "nistp521"}
_KINDS: Final = frozenset({"ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-{curve}" for curve in _CURVES)})
_CERTIFICATE: Final = "-cert-v01@openssh.com"
_RSA_HASHES: Final = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
_OPENSSH_HEAD: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"


class PassphraseNeededError(MisuseError):
    """The key is encrypted, and no passphrase, or a wrong one, was given."""


def load_private_key(data: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """Return the key of a file as ssh-keygen, OpenSSL and PuTTY's exporter write them.

    Raises:
        PassphraseNeededError: see there.
        MisuseError: it is no private key, or of a kind that can't be enrolled.
    """
    load = load_ssh_private_key if data.lstrip().startswith(_OPENSSH_HEAD) else load_pem_private_key
    try:
        key = load(data, passphrase)
    except TypeError:  # encrypted and no passphrase given, or the other way round
        if passphrase is not None:
            return load_private_key(data)
        raise PassphraseNeededError("the key is protected by a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase is not None:
            raise PassphraseNeededError("the passphrase does not open the key") from None
        raise MisuseError("it is no private key that can be read") from None
    if not isinstance(key, PrivateKey):
        raise MisuseError("it is a key of another kind than Ed25519, RSA and ECDSA")
    if isinstance(key, RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise MisuseError(f"it is an RSA key of {key.key_size} bits, and servers take {MIN_RSA_BITS} and more")
    return key


def sealed_form(key: PrivateKey) -> bytes:
    """Return the key as the vault keeps it: PKCS#8 in DER, which is loaded faster than it signs."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def load_sealed(data: bytes | memoryview) -> PrivateKey:
    """Return a key from its sealed form. An RSA key was checked when it was enrolled, and is not again.

    Raises:
        MisuseError: it is no such key.
    """
    try:
        key = load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MisuseError("the vault's record is no private key") from None
    if not isinstance(key, PrivateKey):
        raise MisuseError("the vault's record is a key of another kind")
    return key


def public_blob(key: PrivateKey) -> bytes:
    """Return the public half as it travels (RFC 4253 section 6.6)."""
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def public_line(blob: bytes, comment: str) -> str:
    """Return the line of a ``.pub`` file, without its end."""
    return f"{algorithm_of(blob)} {base64.b64encode(blob).decode()}{f' {comment}' if comment else ''}"


def blob_of_line(line: str) -> tuple[bytes, str]:
    """Return blob and comment of a ``.pub`` file's line.

    Raises:
        MisuseError: it is none.
    """
    parts = line.split(None, 2)
    try:
        blob = base64.b64decode(parts[1], validate=True)
        if algorithm_of(blob) != parts[0]:
            raise MisuseError("a public key whose name is not its kind's")
    except (IndexError, binascii.Error, WireError):
        raise MisuseError("it is no public key") from None
    return blob, parts[2].strip() if len(parts) > 2 else ""  # noqa: PLR2004 - name, blob, comment


def algorithm_of(blob: bytes) -> str:
    """Return the name that a public key's blob begins with.

    Raises:
        WireError: it has none.
    """
    return Reader(blob).text()


def without_certificate(blob: bytes) -> bytes:
    """Return the key that a certificate is about (OpenSSH's PROTOCOL.certkeys), or the blob as it is.

    Raises:
        WireError: it is a certificate that ends early.
    """
    reader = Reader(blob)
    name = reader.text()
    if not name.endswith(_CERTIFICATE):
        return blob
    plain = name.removesuffix(_CERTIFICATE)
    reader.string()  # a nonce
    return string(plain.encode()) + b"".join(string(reader.string()) for _ in range(1 + (plain != "ssh-ed25519")))


def load_public(blob: bytes) -> PublicKey:
    """Return a host's public key.

    Raises:
        MisuseError: it is of another kind, a certificate among them, or none.
    """
    try:
        name = algorithm_of(blob)
        if name not in _KINDS:
            raise MisuseError("it is a public key of another kind")
        key = load_ssh_public_key(name.encode() + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm, WireError):
        raise MisuseError("it is no public key of a known kind") from None
    if not isinstance(key, PublicKey):
        raise MisuseError("it is a public key of another kind")
    return key


def sign(key: PrivateKey, data: bytes, flags: int) -> bytes:
    """Return a signature with the name of its algorithm, as SSH_AGENT_SIGN_RESPONSE carries it.

    Raises:
        MisuseError: an RSA key, and the flags ask for neither of SHA-2's.
    """
    match key:
        case Ed25519PrivateKey():
            return string(b"ssh-ed25519") + string(key.sign(data))
        case RSAPrivateKey():
            name = _rsa_name(flags)
            return string(name.encode()) + string(key.sign(data, PKCS1v15(), _RSA_HASHES[name]))
        case _:
            curve = _CURVE_NAMES[key.curve.name]
            r, s = decode_dss_signature(key.sign(data, ECDSA(_CURVES[curve])))
            return string(f"ecdsa-sha2-{curve}".encode()) + string(integer(r) + integer(s))


def is_genuine(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Tell whether a signature, with the name of its algorithm, is this key's over these bytes."""
    try:
        reader = Reader(signature)
        name, value = reader.text(), reader.string()
        reader.end()
        _verify(key, name, value, data)
    except (InvalidSignature, WireError):
        return False
    return True


def _verify(key: PublicKey, name: str, value: bytes, data: bytes) -> None:
    match key:
        case Ed25519PublicKey() if name == "ssh-ed25519":
            key.verify(value, data)
        case RSAPublicKey() if name in _RSA_HASHES:
            key.verify(value, data, PKCS1v15(), _RSA_HASHES[name])
        case EllipticCurvePublicKey() if name == f"ecdsa-sha2-{_CURVE_NAMES.get(key.curve.name)}":
            reader = Reader(value)
            pair = encode_dss_signature(reader.positive(), reader.positive())
            reader.end()
            key.verify(pair, data, ECDSA(_CURVES[_CURVE_NAMES[key.curve.name]]))
        case _:
            raise InvalidSignature


def _rsa_name(flags: int) -> str:
    """SHA-256 first if both are asked for: the order of OpenSSH's agent (agent_decode_alg)."""
    if flags & RSA_SHA2_256:
        return "rsa-sha2-256"
    if flags & RSA_SHA2_512:
        return "rsa-sha2-512"
    raise MisuseError("an RSA signature with SHA-1 was asked for, which no up-to-date server takes")
