"""The vault's root key: 32 random bytes that one keyring backend keeps, chosen by the operator's configuration alone.

The law of this module: the backend is made here, as an object, and asked directly. ``keyring.get_keyring`` and its
like are never called, so neither PYTHON_KEYRING_BACKEND, nor a ``keyringrc.cfg``, nor an installed plug-in, nor a
KEYRING_PROPERTY_ variable has a say; a test imports a hostile one of each.

The key passes through ``str`` on its way from a backend (keyring's interface), so copies that can't be wiped exist in
this process for a moment; the one that lasts is a ``Secret``.
"""

import base64
import binascii
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from agent_broker.errors import IntegrityError, MisuseError, UnavailableError
from agent_broker.vault.envelope import KEY_BYTES
from agent_broker.vault.root_key_file import KeyFileKeyring
from agent_broker.vault.root_key_session import SessionKeyring
from agent_broker.vault.root_key_systemd import SystemdCredsKeyring
from agent_broker.vault.secret import Secret

CHOICES: Final = ("file", "systemd-creds", "secret-service")
SERVICE: Final = "agent-broker"
USERNAME: Final = "root-key"


def load_root_key(choice: str, *, key_file: Path) -> Secret:
    """Return the root key; it is made, and kept before it is returned, at the first use.

    Args:
        choice: one of CHOICES.
        key_file: of ``file``; ``systemd-creds`` uses the same name with the suffix ``.cred``. Its folder must exist.

    Raises:
        MisuseError: no such choice.
        UnavailableError: the backend is not installed, is locked, or does not answer.
        IntegrityError: what it keeps is not a root key, or others could have read or changed it.
    """
    backend = make_backend(choice, key_file=key_file)
    with _one_at_a_time(key_file.parent):
        try:
            text = backend.get_password(SERVICE, USERNAME)
            if text is None:
                backend.set_password(SERVICE, USERNAME, _encoded(Secret.random(KEY_BYTES)))
                text = backend.get_password(SERVICE, USERNAME)
        except KeyringError as error:
            raise UnavailableError(
                f"the root key's backend {choice} does not work: {error}", next_step="agent-broker doctor says more"
            ) from error
    return _decoded(text, choice)


def make_backend(choice: str, *, key_file: Path) -> KeyringBackend:
    """Return the backend of a choice; arguments and errors as in ``load_root_key``."""
    match choice:
        case "file":
            return KeyFileKeyring(key_file)
        case "systemd-creds":
            return SystemdCredsKeyring(key_file.with_suffix(".cred"))
        case "secret-service":
            return SessionKeyring()
        case _:
            raise MisuseError(f"no such place for the root key; known: {', '.join(CHOICES)}")


def describe_root_key(choice: str, *, key_file: Path) -> str:
    """Return one sentence for ``doctor``: where the root key lies, and who can read it.

    Raises:
        MisuseError: no such choice.
    """
    match make_backend(choice, key_file=key_file):
        case SystemdCredsKeyring() as backend:
            return backend.describe()
        case KeyFileKeyring():
            return (
                f"in the file {key_file}, readable by root alone and not encrypted: root, and whoever gets the disk "
                "or a backup of it, can open the vault"
            )
        case _:
            return (
                "in the Secret Service of the session that starts the broker (vault.root_key = secret-service): every "
                "process of that session's user can ask for it while it is unlocked"
            )


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two first uses at once must end with one key."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{folder} can't be opened: {error.strerror}", next_step=f"mkdir -p {folder}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _encoded(key: Secret) -> str:
    with key.borrow() as view:
        return base64.b64encode(view).decode()


def _decoded(text: str | None, choice: str) -> Secret:
    try:
        key = Secret(base64.b64decode(text or "", validate=True))
    except binascii.Error:
        key = Secret(b"")
    if len(key) != KEY_BYTES:
        raise IntegrityError(
            f"what the backend {choice} keeps under {SERVICE}/{USERNAME} is not a root key",
            next_step="bring back the key from a backup; without it the vault can't be opened",
        )
    return key
