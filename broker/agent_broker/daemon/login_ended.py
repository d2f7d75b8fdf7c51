"""The provider gives no more tokens for a login: a person is told, once.

The incident's id is made of the login, so that one that is found to have ended again, after a restart of the broker
say, is the alert that was told before (audit.alerts). A new login that ends later is another one.
"""

import hashlib

from msgspec.structs import replace

from agent_broker.clock import Clock
from agent_broker.inject.answer import login_command
from agent_broker.inject.google_tokens import MINTED
from agent_broker.monitor.incident import NO_TIER, incident_now
from agent_broker.refusals import RaiseAlert
from agent_broker.vault.file import Credential

_ID_CHARS = 32  # as those of all incidents


class LoginEnded:
    """Implements inject.oauth.LoginWatch."""

    def __init__(self, raise_alert: RaiseAlert, clock: Clock) -> None:
        self._raise_alert = raise_alert
        self._clock = clock

    async def login_ended(self, credential: Credential, mark: str) -> None:
        """Raise the alert.

        Raises:
            UnavailableError: it can't be stored.
        """
        incident = incident_now(
            self._clock,
            kind="login-ended",
            severity="warning",
            what=f"the provider has ended the login of {credential.agent} ({credential.id}): it gives no more tokens",
            tier=NO_TIER,
            action="only-seen",
            agent=credential.agent,
            next_step=f"if you did not end it, find out who has used the account; then {_remedy(credential)}",
            holds=credential.kind,
        )
        same = hashlib.sha256(f"login-ended {credential.id} {mark}".encode()).hexdigest()[:_ID_CHARS]
        await self._raise_alert(replace(incident, id=same))


def _remedy(credential: Credential) -> str:
    if credential.kind in MINTED:
        return f"sudo agent-broker unenroll {credential.agent}, put the new login into its file, and enroll again"
    return f"log in again: {login_command(credential.id)}"
