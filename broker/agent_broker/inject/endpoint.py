"""The injection endpoint: phantom in, real credential out, for the enrolled agent's main process alone.

The law of this module, in the order of a request:
1. A request that is not a plain HTTP/1.1 exchange below one path is refused before anything is looked up.
2. A decoy's value, in whatever header or in the address, is refused and reported.
3. Start-up probes (``HEAD /api/hello``) are answered here: they carry no credential and reach nobody. A phantom that
   is not in the book is refused.
4. The issuer decides, with the connection's peer as the caller; its no is final, and so is "unknown". It runs to
   its end even if the client leaves: whoever presents a stolen phantom and hangs up is recorded all the same.
5. Only then is the credential put into its header, or signs the request, which is streamed to the upstream that it
   is bound to. A signature covers the body, so that one is read first (inject.sigv4).
"""

import socket
from collections.abc import Sequence
from typing import Final, Protocol

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from agent_broker.admission.door import REST_TIMES, Door
from agent_broker.admission.standing import Standings
from agent_broker.errors import AgentBrokerError, RefusedError
from agent_broker.inject.answer import SERVER_NAME, RequestRefusedError, answer_error
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.cloud_upstream import BedrockUpstream
from agent_broker.inject.connections import MAX_CONNECTIONS_PER_USER, Connections, MakeCaller
from agent_broker.inject.forward import Forwarder
from agent_broker.inject.google_metadata import GoogleMetadata
from agent_broker.inject.google_tokens import MINTED
from agent_broker.inject.headers import (
    carried_values,
    check_framing,
    only_phantom,
    presented_tokens,
    put_credential,
    upstream_headers,
)
from agent_broker.inject.kinds import KINDS
from agent_broker.inject.oauth import TokenKeeper
from agent_broker.inject.oauth_servers import is_oauth
from agent_broker.inject.phantom import PhantomBook
from agent_broker.inject.sigv4 import sign, whole_body
from agent_broker.inject.upstream import Upstreams, check_target
from agent_broker.issue import INJECT, Ask, Caller, Issued
from agent_broker_shims import gcp

_PROBES: Final = frozenset({"/", "/api/hello"})
_GRACE_S: Final = 1.0  # for streams that are under way when the endpoint closes
_UNAUTHORIZED: Final = 401


class Issuer(Protocol):
    """Who decides (issue.Issuer)."""

    async def issue(self, ask: Ask) -> Issued:
        """Give the use of a credential, or raise."""
        ...


class DecoyWatch(Protocol):
    """Who knows the decoys that were planted."""

    def is_decoy(self, value: str) -> bool:
        """Whether the value is a decoy's."""
        ...

    async def report_decoy_used(self, caller: Caller, channel: str, value: str) -> None:
        """Raise the alert: somebody presents what it read from a decoy. The value goes no further."""
        ...


class Endpoint:
    """See the module. ``serve`` and ``close`` run in one event loop; nothing here blocks it."""

    def __init__(  # noqa: PLR0913 - the parts of the story, named
        self,
        *,
        issuer: Issuer,
        book: PhantomBook,
        make_caller: MakeCaller,
        upstreams: Upstreams,
        tokens: TokenKeeper,
        forwarder: Forwarder,
        decoys: DecoyWatch | None = None,
        max_connections_per_user: int = MAX_CONNECTIONS_PER_USER,
        standings: Standings | None = None,
        google: GoogleMetadata | None = None,
    ) -> None:
        """Take the parts; ``forwarder`` and ``tokens`` are closed with the endpoint, ``standings`` is shared."""
        self._issuer = issuer
        self._book = book
        self._upstreams = upstreams
        self._tokens = tokens
        self._forwarder = forwarder
        self._decoys = decoys
        self._google = google
        self._connections = Connections(
            self._serve_request, make_caller, max_per_user=max_connections_per_user, standings=standings
        )
        self._doors: list[Door] = []

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on listening sockets, unix or loopback TCP; returns at once."""
        for listener in sockets:
            connections = self._connections
            door = Door(listener, connections.admit, connections.end_one_idle, rest_times=REST_TIMES)
            door.open()
            self._doors.append(door)

    async def close(self) -> None:
        """Stop accepting, give running answers a moment, and finish what must not be lost."""
        for door in self._doors:
            door.close()
        self._connections.turn_all_away()
        self._connections.pre_shutdown()
        await self._connections.shutdown(_GRACE_S)
        await self._tokens.close()
        await self._forwarder.close()

    async def _serve_request(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except AgentBrokerError as error:
            if isinstance(error, RefusedError):
                self._connections.refused(request, error)
            if self._google is not None and gcp.is_meant(request.path, request.headers):
                return self._google.answer_error(request.path, error)
            return answer_error(error)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        check_framing(request.method, request.version, request.headers)
        target = check_target(request.raw_path)
        caller = self._connections.caller_of(request)
        await self._refuse_decoys(request, target, caller)
        if self._google is not None and gcp.is_meant(target.partition("?")[0], request.headers):
            return await self._for_google(request, target, caller)
        if request.method in {"HEAD", "GET"} and target.partition("?")[0] in _PROBES:
            return web.json_response({}, headers={"Server": SERVER_NAME})
        issued = await self._authorize(request, caller)
        upstream = self._upstreams.bound_to(issued.credential)
        url = upstream.url_for(target, request.method)
        self._connections.granted(request)
        headers = upstream_headers(request.headers)
        if isinstance(upstream, BedrockUpstream) and KINDS[issued.credential.kind].is_signed:
            return await self._signed(request, url, headers, issued, upstream.region)
        value = await self._value_of(issued)
        put_credential(headers, issued.credential.kind, value, issued.credential.attributes)
        await _continue(request)
        with self._connections.ended_by_departure(request):
            response = await self._forwarder.exchange(request, url, headers)
        if response.status == _UNAUTHORIZED and _has_access_token(issued.credential.kind):
            self._tokens.rejected(issued.credential, value)
        return response

    async def _for_google(self, request: web.BaseRequest, target: str, caller: ConnectionCaller) -> web.StreamResponse:
        """Answer an enrolled tool; what it sends beside the path counts for nothing, and the connection ends."""
        if self._google is None:
            raise RequestRefusedError(404, "unknown", "nothing of Google's is served here")
        await _continue(request)
        response = await self._google.answer(request.method, target, request.headers, caller)
        self._connections.granted(request)
        response.force_close()
        return response

    async def _signed(
        self, request: web.BaseRequest, url: URL, headers: CIMultiDict[str], issued: Issued, region: str
    ) -> web.StreamResponse:
        """Answer a request that the credential signs, body and all; the answer is streamed as any other."""
        await _continue(request)
        with self._connections.ended_by_departure(request):
            body = await whole_body(request)
            sign(headers, request.method, url, body, secret=issued.secret, region=region)
            return await self._forwarder.exchange(request, url, headers, body)

    async def _refuse_decoys(self, request: web.BaseRequest, target: str, caller: ConnectionCaller) -> None:
        if self._decoys is None:
            return
        value = next(filter(self._decoys.is_decoy, carried_values(request.headers, target)), None)
        if value is not None:
            await self._decoys.report_decoy_used(caller, caller.channel, value)
            raise RequestRefusedError(401, "decoy", "this key is not valid")

    async def _authorize(self, request: web.BaseRequest, caller: ConnectionCaller) -> Issued:
        entry = self._book.find(only_phantom(presented_tokens(request.headers)))
        if entry is None:
            raise RequestRefusedError(
                401,
                "unknown-phantom",
                "this phantom token is not known here",
                next_step="restart the agent; if it stays, run: sudo agent-broker enroll AGENT",
            )
        ask = Ask(caller, entry.credential, INJECT, caller.channel, by_folder=not entry.account)
        return await self._issuer.issue(ask)

    async def _value_of(self, issued: Issued) -> str:
        if _has_access_token(issued.credential.kind):
            return await self._tokens.access_token(issued.credential, issued.secret)
        return issued.secret.reveal().decode("latin-1")  # put_credential() takes plain ASCII only


def _has_access_token(kind: str) -> bool:
    return is_oauth(kind) or kind in MINTED


async def _continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send the body (RFC 9110 section 10.1.1), now that it may."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # no answer has begun
