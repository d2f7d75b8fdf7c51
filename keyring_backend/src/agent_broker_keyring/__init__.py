"""keyring's way to agent-broker: each question starts the broker's shim, which the broker knows from others.

The law:
1. Nothing is kept here: no password outlives the call that asked for it, and none is ever in an argument.
2. A refusal is an exception, and so is a broker that is down: keyring goes on to no other backend then. "There is no
   such password" is not: then the user's other backends are asked.
3. The shim is the one that root enrolled. Without an enrolment of this user's there is no such backend.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.compat import properties
from keyring.credentials import SimpleCredential
from keyring.errors import KeyringLocked, PasswordDeleteError, PasswordSetError

__all__ = ["BrokerKeyring"]

PROTOCOL = "keyring-backend"
_ENROLMENT = "var/lib/agent-broker/registry/tools/keyring-{}.json"
_ROOT = "AGENT_BROKER_ROOT"
_PRIORITY = 9.5  # the first that keyring's chain asks; the chain itself has 10
_NOT_FOUND = 1
_TIMEOUT_S = 5.0  # the shim itself gives up after 2 s


class BrokerKeyring(KeyringBackend):
    """See the module."""

    @properties.classproperty
    def priority(self) -> float:
        """See KeyringBackend.

        Raises:
            RuntimeError: keyring is not enrolled for this user.
        """
        _shim()
        return _PRIORITY

    def get_password(self, service: str, username: str) -> str | None:
        """Return a password; None: there is none.

        Raises:
            KeyringLocked: the broker said no, or nothing.
        """
        found = self._get(service, username)
        return None if found is None else found["password"]

    def get_credential(self, service: str, username: str | None) -> SimpleCredential | None:
        """Return a user's name and password; None: there is none. Raises as ``get_password``."""
        found = self._get(service, username)
        return None if found is None else SimpleCredential(found["username"], found["password"])

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a password in the broker's vault.

        Raises:
            PasswordSetError: the policy does not let this program, root keeps that one, or there is no room.
        """
        asked = {"operation": "set", "service": service, "username": username, "password": password}
        code, _, why = _ask(asked)
        if code:
            raise PasswordSetError(why)

    def delete_password(self, service: str, username: str) -> None:
        """Delete a password that was set through keyring.

        Raises:
            PasswordDeleteError: there is none, or as ``set_password``.
        """
        code, _, why = _ask({"operation": "delete", "service": service, "username": username})
        if code:
            raise PasswordDeleteError(why)

    def _get(self, service: str, username: str | None) -> dict[str, str] | None:
        code, out, why = _ask({"operation": "get", "service": service, "username": username})
        if code == _NOT_FOUND:
            return None
        if code:
            raise KeyringLocked(why)
        found: dict[str, str] = json.loads(out)
        return found


def _ask(asked: dict[str, str | None]) -> tuple[int, bytes, str]:
    """Return the shim's exit code, what it printed, and why there is no answer."""
    root = os.environ.get(_ROOT)
    try:
        done = subprocess.run(
            [_shim(), PROTOCOL],
            input=json.dumps(asked).encode(),
            env={} if root is None else {_ROOT: root},
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return -1, b"", f"agent-broker could not be asked: {type(error).__name__}"
    said = " ".join(done.stderr.decode("utf-8", "replace").split())
    return done.returncode, done.stdout, said or "agent-broker gave no reason"


def _shim() -> str:
    """Return the path of the shim, as root enrolled it for this user."""
    path = Path(os.environ.get(_ROOT) or "/", _ENROLMENT.format(os.getuid()))
    try:
        return str(json.loads(path.read_bytes())["serving"]["shim"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RuntimeError("keyring is not enrolled for this user: sudo agent-broker enroll keyring") from error
