"""Access tokens of Google's for verified tools, as Google's libraries ask for them (agent_broker_shims.gcp).

The law of this module:
1. A token goes to the one process that holds the connection, if that is an enrolled tool itself: what it presents
   counts for nothing. The issuer decides, and journals before the answer leaves, for each token anew.
2. What leaves is an access token that the broker minted; neither the key nor the refresh token does. It is for Google's
   whole cloud-platform scope, whatever scope is asked for, and clients are told to ask again in LIFETIME_S.
3. ``Metadata-Flavor: Google`` is required where Google requires it, so no web page can ask.
4. What is not a token (a project's name, an account's e-mail address) is told to the same tools only.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from aiohttp import web

from agent_broker.errors import AgentBrokerError, UnavailableError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.inject.answer import SERVER_NAME, RequestRefusedError
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.google_tokens import MINTED
from agent_broker.inject.oauth_clock import EARLY_NS
from agent_broker.issue import MINT, Ask, Issued
from agent_broker.vault.file import Credential
from agent_broker.vault.record import PROJECT_ATTRIBUTE, USERNAME_ATTRIBUTE
from agent_broker.vault.secret import Secret
from agent_broker_shims import gcp

TOOL: Final = AgentName(gcp.TOOL)
LIFETIME_S: Final = EARLY_NS // 1_000_000_000
"""The keeper renews its own token so long before the end: whatever it gives is good for this time."""
_NONE: Final = "none"
_REFUSED: Final = 403
_UNAVAILABLE: Final = 503
_JSON: Final = "application/json"


class Issuer(Protocol):
    """Who decides (issue.Issuer)."""

    async def issue(self, ask: Ask) -> Issued:
        """Give the use of a credential, or raise."""
        ...


class Credentials(Protocol):
    """Who knows what the vault holds (daemon.enrolled.Enrolled)."""

    def credentials_of(self, agent: AgentName, uid: Uid) -> tuple[Credential, ...]:
        """Return the descriptions of everything of this tool, of this user."""
        ...


class Tokens(Protocol):
    """Who mints (inject.oauth.TokenKeeper)."""

    async def access_token(self, credential: Credential, secret: Secret) -> str:
        """Return an access token that is valid now, or raise."""
        ...


class GoogleMetadata:
    """See the module."""

    def __init__(self, *, issuer: Issuer, credentials: Credentials, tokens: Tokens) -> None:
        """Take the parts."""
        self._issuer = issuer
        self._credentials = credentials
        self._tokens = tokens

    async def answer(
        self, method: str, target: str, headers: Mapping[str, str], caller: ConnectionCaller
    ) -> web.Response:
        """Answer one request of those that ``gcp.is_meant`` says.

        Raises:
            AgentBrokerError: no, with the reason; ``answer_error`` says it.
        """
        path, _, query = target.partition("?")
        if method != ("POST" if path == gcp.TOKEN_PATH else "GET"):
            raise RequestRefusedError(405, "method", "this path is asked with another method")
        if path not in {gcp.SUBJECT_PATH, gcp.TOKEN_PATH} and headers.get(gcp.FLAVOR[0]) != gcp.FLAVOR[1]:
            raise RequestRefusedError(403, "flavor", "the header Metadata-Flavor: Google is missing")
        needs = gcp.needs(path)
        if not needs:
            raise RequestRefusedError(
                404, "unknown", "this tells of an account, its project and its access tokens only"
            )
        if needs == gcp.NO_LOGIN:
            return _answer(gcp.plain_answer(path))
        issued = await self._issued(caller)
        if needs == gcp.TOKEN:
            token = await self._tokens.access_token(issued.credential, issued.secret)
            return _answer(gcp.token_answer(path, token, LIFETIME_S))
        known = issued.credential.attributes
        told = gcp.login_answer(path, query, known.get(USERNAME_ATTRIBUTE, ""), known.get(PROJECT_ATTRIBUTE, ""))
        if told is None:
            raise RequestRefusedError(404, "unknown", "no project is known of this login: set GOOGLE_CLOUD_PROJECT")
        return _answer(told)

    @staticmethod
    def answer_error(path: str, error: AgentBrokerError) -> web.Response:
        """Return a no in the form that Google's libraries show to a person."""
        status = int(getattr(error, "status", _UNAVAILABLE if isinstance(error, UnavailableError) else _REFUSED))
        response = _answer(gcp.refusal(path, f"agent-broker: {error.explain()}"), status)
        response.force_close()
        return response

    async def _issued(self, caller: ConnectionCaller) -> Issued:
        uid = Uid(0) if caller.peer is None else caller.peer.uid
        found = (each.id for each in self._credentials.credentials_of(TOOL, uid) if each.kind in MINTED)
        name = next(found, CredentialId(f"{TOOL}/{uid}/{_NONE}"))
        return await self._issuer.issue(Ask(caller, name, MINT, caller.channel, tool=True))


def _answer(body: bytes, status: int = 200) -> web.Response:
    kind = _JSON if body.startswith(b"{") else "text/plain"
    headers = {gcp.FLAVOR[0]: gcp.FLAVOR[1], "Server": SERVER_NAME, "Cache-Control": "no-store"}
    return web.Response(body=body, status=status, content_type=kind, headers=headers)
