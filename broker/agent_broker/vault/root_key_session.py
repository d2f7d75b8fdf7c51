"""The Secret Service of a desktop session (gnome-keyring, KWallet, KeePassXC), through keyring's own backend."""

from collections.abc import Iterator
from contextlib import contextmanager

from keyring.backends.SecretService import Keyring
from keyring.errors import KeyringError
from secretstorage.exceptions import SecretStorageException

from agent_broker.errors import UnavailableError


class SessionKeyring(Keyring):
    """keyring's Secret Service backend, deaf to the environment (but for the address of the session's bus)."""

    def __init__(self) -> None:
        """Prepare to ask the session.

        ``KeyringBackend.__init__`` is not called: all it does is to set attributes, such as the collection to use,
        from the environment.
        """

    def get_password(self, service: str, username: str) -> str | None:
        """Return the password, or None.

        Raises:
            UnavailableError: no session bus, nothing on it that keeps secrets, or it stays locked.
        """
        with _answering():
            password: str | None = super().get_password(service, username)  # type: ignore[no-untyped-call]  # keyring types its interface, not its backends
            return password

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a password. Raises as ``get_password``."""
        with _answering():
            super().set_password(service, username, password)  # type: ignore[no-untyped-call]  # keyring types its interface, not its backends


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (SecretStorageException, KeyringError, OSError) as error:
        raise UnavailableError(
            f"the session's Secret Service does not answer: {error}",
            next_step='start and unlock the session\'s keyring, or set [vault] root_key = "file" in config.toml',
        ) from error
