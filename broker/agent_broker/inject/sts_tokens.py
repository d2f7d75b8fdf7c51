"""AWS sessions, minted by the broker from a stored key pair that itself goes nowhere: it signs requests, for STS alone.

What is kept, and for how long: inject.minted. There is one session for each credential and each narrowing; a narrowed
one is never given where another narrowing was asked for.
"""

import asyncio
from typing import Final

from agent_broker.clock import Clock
from agent_broker.errors import UnavailableError
from agent_broker.inject.mint_client import MintClient
from agent_broker.inject.minted import Fresh, Minted, UnknownToServerError
from agent_broker.inject.oauth_clock import answered_at_ms
from agent_broker.inject.oauth_tokens import fingerprint
from agent_broker.inject.sts_requests import LIFETIME_S, StsRefusal, read_answer, session_request
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret

EARLY_NS: Final = 15 * 60 * 1_000_000_000
"""botocore's advisory window (credentials.RefreshableCredentials): with less left an SDK asks again at every use."""
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_UNKNOWN_KEY: Final = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"})
_ANEW: Final = "sudo agent-broker unenroll aws, put the new ones into the profile, and enroll again"
_NEXT: Final = {
    "AccessDenied": 'allow it in IAM; or hand out the key itself, by a rule with modes = ["release"]',
    "RequestExpired": "set the machine's date",
    "ExpiredToken": f"these keys have ended: {_ANEW}",
    "PackedPolicyTooLarge": "make the session policy of the rule shorter",
    "MalformedPolicyDocument": "mend the session policy of the rule",
}


class StsMinter:
    """See the module (transport.ports.Minter)."""

    def __init__(self, clock: Clock, base_url: str = "") -> None:
        """``base_url``: where the operator has STS; empty: AWS's own."""
        self._clock = clock
        self._base_url = base_url
        self._http = MintClient()
        self._minted = Minted(clock, EARLY_NS)

    async def mint(self, credential: Credential, secret: Secret, narrowed: str, scope: str) -> Secret:
        """Return a session that is good now, in the form in which a pair is kept; ``scope`` says nothing here.

        Raises:
            UnavailableError: STS refuses it, or does not answer and no session is left.
            IntegrityError: what is stored is no pair.
        """
        del scope
        source = fingerprint(secret.reveal().decode("utf-8", "surrogateescape"))
        return await self._minted.get(
            (credential.id, narrowed), source, lambda: self._ask(credential, secret, narrowed)
        )

    async def close(self) -> None:
        """End what is under way."""
        await self._minted.close()
        await self._http.close()

    async def _ask(self, credential: Credential, secret: Secret, narrowed: str) -> Fresh:
        request = await asyncio.to_thread(session_request, credential, secret, narrowed, self._base_url)
        asked_ns = self._clock.boot_ns()
        answered = await self._http.post("AWS's STS", request.url, request.body, request.headers)
        answer = read_answer(request.action, answered.status, answered.body)
        if isinstance(answer, StsRefusal):
            raise _refused(request.action, answer)
        # by STS's own clock, and never longer than was asked for
        lifetime_ms = int(answer.ends_s * 1000) - answered_at_ms(answered.date, self._clock)
        lifetime_ns = max(0, min(lifetime_ms * _NS_PER_MS, LIFETIME_S * _NS_PER_S))
        return Fresh(answer.as_secret(), asked_ns + lifetime_ns)


def _refused(action: str, refusal: StsRefusal) -> UnavailableError:
    if refusal.code in _UNKNOWN_KEY:
        return UnknownToServerError("AWS takes these keys no more", next_step=_ANEW)
    return UnavailableError(
        f"AWS gives no session for this profile: {action}: {refusal.code}: {refusal.text}",
        next_step=_NEXT.get(refusal.code, "try again in a minute"),
    )
