"""``~/.gemini/gemini-credentials.json``: what Gemini CLI keeps where there is no desktop keyring. Pure.

The file is AES-256-GCM under a key that is made of nothing but the names of the machine and of the user, so it hides
its content from nobody (packages/core/src/services/fileKeychain.ts of Gemini CLI 0.61): ``IV:TAG:TEXT`` in hex, the
key by scrypt with Node's defaults. Inside is JSON: service, account, and a text, which is JSON again.
"""

import binascii
import json
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from agent_broker.errors import MisuseError

_PASSWORD = b"gemini-cli-oauth"
_KEY_BYTES = 32
_COST, _BLOCK, _PARALLEL = 16384, 8, 1  # crypto.scryptSync's defaults
_PARTS = 3
_IV_BYTES = (12, 16)
_TAG_BYTES = 16
_SERVICE, _ACCOUNT = "gemini-cli-api-key", "default-api-key"


class SealedFileError(MisuseError):
    """The file is not one that Gemini on this machine wrote for this user."""


class GeminiKeychain:
    """One file's content.

    Attributes:
        services: every service with its accounts, as Gemini stores them.
    """

    def __init__(self, data: bytes, *, host: str, user: str) -> None:
        """Open a file.

        Raises:
            SealedFileError: it does not open with these names, or is not what Gemini writes.
        """
        self._key = _key_of(host, user)
        try:
            services = json.loads(_opened(data, self._key))
        except (ValueError, InvalidTag, RecursionError):
            raise SealedFileError("it does not open with the names of this machine and user") from None
        if not isinstance(services, dict) or not all(isinstance(each, dict) for each in services.values()):
            raise SealedFileError("its content is not what Gemini writes")
        self.services: dict[str, dict[str, Any]] = services

    def api_key(self) -> str | None:
        """Return the Gemini API key; None: there is none."""
        token = _entry(self.services).get("token")
        key = token.get("accessToken") if isinstance(token, dict) else None
        return key if isinstance(key, str) and key else None

    def with_api_key(self, key: str) -> bytes:
        """Return the file with another key in the place of its own, sealed anew; everything else in it stays."""
        entry = _entry(self.services)
        entry["token"] = {**entry["token"], "accessToken": key}
        services = {**self.services, _SERVICE: {**self.services[_SERVICE], _ACCOUNT: _compact(entry)}}
        return _sealed(json.dumps(services, indent=2, ensure_ascii=False).encode(), self._key)


def new_file(key: str, *, host: str, user: str) -> bytes:
    """Return a file that holds one API key."""
    entry = {"serverName": _ACCOUNT, "token": {"accessToken": key, "tokenType": "ApiKey"}, "updatedAt": 0}
    services = {_SERVICE: {_ACCOUNT: _compact(entry)}}
    return _sealed(json.dumps(services, indent=2).encode(), _key_of(host, user))


def _entry(services: dict[str, dict[str, Any]]) -> dict[str, Any]:
    text = services.get(_SERVICE, {}).get(_ACCOUNT)
    try:
        entry = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _key_of(host: str, user: str) -> bytes:
    salt = f"{host}-{user}-gemini-cli".encode("utf-8", "surrogateescape")
    return Scrypt(salt=salt, length=_KEY_BYTES, n=_COST, r=_BLOCK, p=_PARALLEL).derive(_PASSWORD)


def _opened(data: bytes, key: bytes) -> bytes:
    parts = data.split(b":")
    if len(parts) != _PARTS:
        raise ValueError
    try:
        iv, tag, text = (binascii.unhexlify(part.strip()) for part in parts)
    except binascii.Error as error:
        raise ValueError from error
    if len(iv) not in _IV_BYTES or len(tag) != _TAG_BYTES:
        raise ValueError
    decryptor = Cipher(algorithms.AES(key), modes.GCM(iv, tag)).decryptor()
    return decryptor.update(text) + decryptor.finalize()


def _sealed(text: bytes, key: bytes) -> bytes:
    iv = os.urandom(_IV_BYTES[0])
    encryptor = Cipher(algorithms.AES(key), modes.GCM(iv)).encryptor()
    body = encryptor.update(text) + encryptor.finalize()
    return b":".join(binascii.hexlify(part) for part in (iv, encryptor.tag, body))
