"""Seals and unseals one value: AES-256-GCM under a data key of its own, the data key wrapped under the root key's.

The law of this module:

1. The root key is never used as a key. HKDF-SHA256 (RFC 5869), salted per vault, makes three keys of it: to wrap data
   keys, to authenticate the manifest, and a check value that tells a wrong root key from a damaged record.
2. Every sealed value has a fresh random data key, which therefore encrypts exactly one message.
3. Both ciphertexts are bound to the same ``facts`` (associated data): whoever moves a ciphertext under other facts
   gets an error, never a secret.
4. Nonces are 96 random bits. For values their repetition could not matter (one message a key). The wrapping key
   encrypts one data key a ``seal``: NIST SP 800-38D, 8.3 allows 2^32 of them for random nonces, far beyond a vault.

The derived keys live in ``Secret`` memory; OpenSSL keeps expanded copies of a key while it is in use.
"""

import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.vault.secret import Secret

KEY_BYTES: Final = 32  # AES-256
NONCE_BYTES: Final = 12  # the length that GCM uses as it is, SP 800-38D 5.2.1.1
TAG_BYTES: Final = 16
SALT_BYTES: Final = 32

_WRAP: Final = b"agent-broker vault 1: wrap"
_MANIFEST: Final = b"agent-broker vault 1: manifest"
_CHECK: Final = b"agent-broker vault 1: check"
_OF_KEY: Final = b"key\0"
_OF_VALUE: Final = b"value\0"


class Sealed(Struct, frozen=True):
    """One sealed value: four byte strings that mean nothing without the root key and the facts."""

    key_nonce: bytes
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes


class Keys:
    """What the root key opens.

    Attributes:
        check: 32 public bytes; equal to those stored with a vault if and only if this is its root key and salt.
    """

    def __init__(self, root_key: Secret, salt: bytes) -> None:
        """Derive.

        Raises:
            MisuseError: a root key of a wrong length.
        """
        if len(root_key) != KEY_BYTES:
            raise MisuseError(f"a root key has {KEY_BYTES} bytes, this one has {len(root_key)}")
        self._wrapping = _derive(root_key, salt, _WRAP)
        self._manifest = _derive(root_key, salt, _MANIFEST)
        self.check = _derive(root_key, salt, _CHECK).reveal()

    def seal(self, value: Secret, facts: bytes) -> Sealed:
        """Return ``value`` sealed and bound to ``facts``."""
        data_key = Secret.random(KEY_BYTES)
        key_nonce, nonce = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
        with self._wrapping.borrow() as wrapping, data_key.borrow() as key, value.borrow() as plain:
            wrapped_key = AESGCM(wrapping).encrypt(key_nonce, key, _OF_KEY + facts)
            ciphertext = AESGCM(key).encrypt(nonce, plain, _OF_VALUE + facts)
        data_key.wipe()
        return Sealed(key_nonce, wrapped_key, nonce, ciphertext)

    def unseal(self, sealed: Sealed, facts: bytes, name: str) -> Secret:
        """Return the value that was sealed with exactly these facts.

        Args:
            sealed: what ``seal`` returned.
            facts: what ``seal`` was given.
            name: how an error calls the value.

        Raises:
            IntegrityError: a bit of ``sealed`` or of ``facts`` is not what it was; nothing of the value leaks.
        """
        with self._wrapping.borrow() as wrapping:
            data_key = _decrypt(wrapping, sealed.key_nonce, sealed.wrapped_key, _OF_KEY + facts, name)
        if len(data_key) != KEY_BYTES:
            raise damaged(name)
        with data_key.borrow() as key:
            value = _decrypt(key, sealed.nonce, sealed.ciphertext, _OF_VALUE + facts, name)
        data_key.wipe()
        return value

    def authenticate(self, text: bytes) -> bytes:
        """Return the 32-byte HMAC-SHA256 of a manifest."""
        with self._manifest.borrow() as key:
            mac = HMAC(key, hashes.SHA256())
        mac.update(text)
        return mac.finalize()

    def wipe(self) -> None:
        """Forget the derived keys."""
        self._wrapping.wipe()
        self._manifest.wipe()


def damaged(name: str) -> IntegrityError:
    """Return the error of a value that is not what was stored."""
    return IntegrityError(
        f"{name} is not what was stored: its bytes or its description were changed",
        next_step="restore the vault from a backup, or remove the record and enroll the agent again",
    )


def equal(left: bytes, right: bytes) -> bool:
    """Compare check values and MACs in constant time."""
    return hmac.compare_digest(left, right)


def _derive(root_key: Secret, salt: bytes, purpose: bytes) -> Secret:
    hkdf = HKDF(hashes.SHA256(), length=KEY_BYTES, salt=salt, info=purpose)
    with root_key.borrow() as root:
        return Secret.filled(KEY_BYTES, lambda view: hkdf.derive_into(root, view))


def _decrypt(key: memoryview, nonce: bytes, data: bytes, facts: bytes, name: str) -> Secret:
    if len(nonce) != NONCE_BYTES or len(data) < TAG_BYTES:
        raise damaged(name)
    try:
        return Secret.filled(len(data) - TAG_BYTES, lambda view: AESGCM(key).decrypt_into(nonce, data, facts, view))
    except InvalidTag as error:
        raise damaged(name) from error
