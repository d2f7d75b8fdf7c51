"""Which headers pass, and where the credential goes. Pure: headers in, headers out.

The law of this module:
1. The phantom is taken from ``Authorization: Bearer``, ``x-api-key`` or ``x-goog-api-key`` and from nowhere else.
   Two different phantoms, or a phantom in any other header, refuse the request.
2. All of these headers are dropped, whatever they held; the credential is put into the one where its kind
   belongs (inject.kinds). So the provider sees exactly one credential: the vault's.
3. Hop-by-hop headers, those that ``Connection`` names included, end here in both directions.
4. A request whose length can be read in two ways is refused (request smuggling, RFC 9112 section 6.3).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from agent_broker.errors import IntegrityError
from agent_broker.honeytoken.presented import pieces_of
from agent_broker.inject.answer import RequestRefusedError
from agent_broker.inject.kinds import AUTH_HEADERS, KINDS
from agent_broker.inject.phantom import mentions_phantom
from agent_broker.vault.record import ACCOUNT_ATTRIBUTE

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

MAX_CARRIED_TEXTS: Final = 128
"""Of a request's headers that are searched for a decoy's value; Claude Code sends some 25."""
MAX_CARRIED_CHARS: Final = 32 * 1024
"""Of all of them; Claude Code's have less than 2,000. Nobody keeps the broker busy with headers."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)  # RFC 9110 section 7.6.1, and what older clients send
_NEVER_UPSTREAM: Final = frozenset({"host", "expect", *AUTH_HEADERS})
_CREDENTIAL_SHAPE: Final = re.compile(r"[\x21-\x7e]+")


def check_framing(method: str, version: tuple[int, int], headers: Headers) -> None:
    """Refuse requests that are not plain HTTP/1.1 exchanges.

    Raises:
        RequestRefusedError: another version (an HTTP/1.0 client could not tell a broken answer from a whole one),
            CONNECT, an upgrade, or a body whose length is not told in exactly one way.
    """
    if version != (1, 1):
        raise RequestRefusedError(400, "version", "this endpoint speaks HTTP/1.1 only")
    if method == "CONNECT":
        raise RequestRefusedError(400, "method", "this endpoint is not a proxy: CONNECT is not served")
    if "upgrade" in headers:
        raise RequestRefusedError(426, "upgrade", "this endpoint speaks HTTP/1.1 only: no upgrade is served")
    lengths = headers.getall("content-length", [])
    codings = headers.getall("transfer-encoding", [])
    if len(lengths) + len(codings) > 1:
        raise RequestRefusedError(400, "framing", "the length of the request's body is told twice")
    if codings and codings[0].strip().lower() != "chunked":
        raise RequestRefusedError(400, "framing", "the only transfer coding that is served is chunked")
    if lengths and not (lengths[0].isascii() and lengths[0].isdigit()):
        raise RequestRefusedError(400, "framing", "the request's Content-Length is not a number")


def presented_tokens(headers: Headers) -> tuple[str, ...]:
    """Return the different tokens that the authentication headers hold, empty ones left out.

    Raises:
        RequestRefusedError: a phantom in another header, or in an Authorization that is not Bearer.
    """
    if any(mentions_phantom(value) for name, value in headers.items() if name.lower() not in AUTH_HEADERS):
        raise RequestRefusedError(400, "phantom-place", "a phantom token came in a header where none belongs")
    tokens = [_token_of(name, value) for name in AUTH_HEADERS for value in headers.getall(name, [])]
    return tuple(dict.fromkeys(token for token in tokens if token))


def carried_values(headers: Headers, target: str) -> Iterator[str]:
    """Yield what in a request may be a stolen value, authentication first: each header's parts, the address's.

    Bounded: MAX_CARRIED_TEXTS headers and MAX_CARRIED_CHARS in all, and of each what honeytoken.presented looks at.
    """
    left = MAX_CARRIED_CHARS
    named = [value for name in AUTH_HEADERS for value in headers.getall(name, [])]
    others = [value for name, value in headers.items() if name.lower() not in AUTH_HEADERS]
    for text in (*named, target, *others)[:MAX_CARRIED_TEXTS]:
        yield from pieces_of(text[:left])
        left -= len(text)
        if left <= 0:
            return


def only_phantom(tokens: Iterable[str]) -> str:
    """Return the phantom among the tokens; what is not one is ignored, and never forwarded.

    Raises:
        RequestRefusedError: none (401), or two different ones (400).
    """
    phantoms = [token for token in tokens if mentions_phantom(token)]
    if not phantoms:
        raise RequestRefusedError(
            401,
            "no-phantom",
            "the request carries no phantom token",
            next_step="the agent's settings lack it; run: sudo agent-broker enroll AGENT",
        )
    if len(phantoms) > 1:
        raise RequestRefusedError(
            400,
            "two-phantoms",
            "the request carries two different phantom tokens",
            next_step="unset the agent's variables for keys and tokens outside the enrolled settings",
        )
    return phantoms[0]


def upstream_headers(headers: Headers) -> CIMultiDict[str]:
    """Return the request headers that pass; no authentication and no Host is among them."""
    return _without(headers, _NEVER_UPSTREAM | _hop_by_hop(headers))


def response_headers(headers: Headers) -> CIMultiDict[str]:
    """Return the response headers that pass."""
    return _without(headers, _hop_by_hop(headers))


def put_credential(
    headers: CIMultiDict[str], kind: str, value: str, attributes: Mapping[str, str] | None = None
) -> None:
    """Put the real credential where its kind belongs, and what its provider wants to see beside it.

    Raises:
        IntegrityError: a kind that can't be injected, or a value that no header may carry.
    """
    how = KINDS.get(kind)
    if how is None:
        raise IntegrityError(f"credentials of kind {kind} can't be injected", next_step="agent-broker credentials")
    account = (attributes or {}).get(ACCOUNT_ATTRIBUTE, "")
    if not _CREDENTIAL_SHAPE.fullmatch(value) or (account and not _CREDENTIAL_SHAPE.fullmatch(account)):
        raise IntegrityError(
            "the stored credential is empty or holds characters that no header may carry",
            next_step="store it again: sudo agent-broker enroll AGENT",
        )
    headers[how.header] = how.scheme + value
    _add_betas(headers, how.betas)
    if how.account_header:
        headers.popall(how.account_header, None)
    if how.account_header and account:
        headers[how.account_header] = account


def _token_of(name: str, value: str) -> str:
    value = value.strip()
    if name != "authorization":
        return value
    scheme, _, token = value.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if mentions_phantom(value):
        raise RequestRefusedError(400, "phantom-place", "a phantom token came in an Authorization that is not Bearer")
    return ""


def _hop_by_hop(headers: Headers) -> frozenset[str]:
    named = (token.strip().lower() for value in headers.getall("connection", []) for token in value.split(","))
    return _HOP_BY_HOP | {name for name in named if name}


def _without(headers: Headers, names: Iterable[str]) -> CIMultiDict[str]:
    passed = CIMultiDict(headers)
    for name in names:
        passed.popall(name, None)
    return passed


def _add_betas(headers: CIMultiDict[str], wanted: tuple[str, ...]) -> None:
    if not wanted:
        return
    betas = [beta.strip() for value in headers.popall("anthropic-beta", []) for beta in value.split(",")]
    betas += [beta for beta in wanted if beta not in betas]
    headers["anthropic-beta"] = ",".join(beta for beta in betas if beta)
