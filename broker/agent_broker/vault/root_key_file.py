"""A keyring backend in one file of mode 0600: the embedded default.

It guards against other users, not against root or whoever holds the disk. A file that group or others may touch, that
is not this process's user's, or that is a symbolic link is refused, before a byte of it is read.
"""

import os
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

from agent_broker.disk import replace_file, require_private
from agent_broker.errors import IntegrityError, UnavailableError

_Entries = dict[str, dict[str, str]]
"""Service, user name, password."""


class KeyFileKeyring(KeyringBackend):
    """Passwords as JSON in one private file. A missing file is an empty one."""

    priority: ClassVar[Any] = 0  # never found by keyring's own search: it can't be made without a path

    def __init__(self, path: Path) -> None:
        """Use a file.

        ``KeyringBackend.__init__`` is not called: all it does is to set attributes from the environment.
        """
        self.path = path

    def get_password(self, service: str, username: str) -> str | None:
        """Return the password, or None.

        Raises:
            IntegrityError: others could have read or changed the file, or it is not ours.
            UnavailableError: it can't be read.
        """
        return self._entries().get(service, {}).get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a password; durable on return. Raises as ``get_password``."""
        entries = self._entries()
        entries.setdefault(service, {})[username] = password
        replace_file(self.path, self._closed(msgspec.json.encode(entries)))

    def delete_password(self, service: str, username: str) -> None:
        """Forget a password.

        Raises:
            PasswordDeleteError: there is none (keyring's contract).
        """
        entries = self._entries()
        if username not in entries.get(service, {}):
            raise PasswordDeleteError("no such password")
        del entries[service][username]
        replace_file(self.path, self._closed(msgspec.json.encode(entries)))

    def _entries(self) -> _Entries:
        content = self._read()
        if content is None:
            return {}
        try:
            return msgspec.json.decode(self._opened(content), type=_Entries)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Without its cause: a decoder's error may hold what it was given.
            raise IntegrityError(
                f"{self.path} is not a root-key file", next_step="bring it back from a backup"
            ) from None

    def _read(self) -> bytes | None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(f"{self.path} can't be opened: {error.strerror}") from error
        with os.fdopen(fd, "rb") as file:
            require_private(self.path, os.fstat(fd))
            return file.read()

    def _opened(self, content: bytes) -> bytes:
        """The entries' JSON, from what the file holds."""
        return content

    def _closed(self, entries: bytes) -> bytes:
        """What the file shall hold, from the entries' JSON."""
        return entries
