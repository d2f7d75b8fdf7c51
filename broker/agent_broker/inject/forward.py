"""One exchange with the upstream, streamed both ways.

The law of this module:
1. Bytes pass as they come: nothing is collected, decompressed or re-encoded, in either direction; but for the body
   of a request that is signed, which was read for that (inject.sigv4).
2. An answer that breaks off upstream breaks off here: the client's connection is cut, so that half a stream never
   looks like a whole one. A client that leaves ends the upstream's request.
3. No redirect is followed, no proxy of the environment is used, no cookie is kept: the credential goes to the
   one URL that it was given for.
"""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Final

import aiohttp
from aiohttp import StreamReader, web
from multidict import CIMultiDict
from yarl import URL

from agent_broker.inject.answer import SERVER_NAME, ProviderError
from agent_broker.inject.headers import response_headers

CONNECT_TIMEOUT_S: Final = 10
IDLE_READ_TIMEOUT_S: Final = 600  # what the provider's own clients wait for a next byte

_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Forwarder:
    """The client side towards the upstreams; keeps connections for re-use."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, idle_read_timeout_s: float = IDLE_READ_TIMEOUT_S) -> None:
        """Make it inside the running loop; ``tls`` replaces the system's certificate authorities."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls or True, limit=0),  # bounded by the endpoint's connections
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_read_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_NOT_ADDED,
        )

    async def close(self) -> None:
        """Close the connections to the upstreams."""
        await self._session.close()

    async def exchange(
        self, request: web.BaseRequest, url: URL, headers: CIMultiDict[str], body: bytes | None = None
    ) -> web.StreamResponse:
        """Send the request on with these headers, and the answer back; ``body``: it was read already.

        Raises:
            ProviderError: no answer began. If one began and broke off, the client's connection is cut instead.
        """
        async with self._answer(request, url, headers, body) as upstream:
            passed = response_headers(upstream.headers)
            passed.setdefault("Server", SERVER_NAME)
            if upstream.content.is_eof() and (whole := upstream.content.read_nowait()):
                return web.Response(status=upstream.status, reason=upstream.reason, headers=passed, body=whole)
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=passed)
            await response.prepare(request)
            try:
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
            except (aiohttp.ClientError, TimeoutError):
                _cut(request)
            return response

    @asynccontextmanager
    async def _answer(
        self, request: web.BaseRequest, url: URL, headers: CIMultiDict[str], whole: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        body: StreamReader | BytesIO | bytes | None = BytesIO(whole) if whole else None  # that is sent in pieces
        if whole is None and request.body_exists:
            body = request.content.read_nowait() if request.content.is_eof() else request.content
        try:
            upstream = await self._session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            )
        except aiohttp.ClientConnectorCertificateError as error:
            raise ProviderError(f"the certificate of {url.host} is not valid: {error.certificate_error}") from error
        except TimeoutError as error:
            raise ProviderError(f"{url.host} does not answer in time", status=504) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderError(f"{url.host} can't be reached: {_reason(error)}") from error
        async with upstream:
            yield upstream


def _cut(request: web.BaseRequest) -> None:
    """End the client's connection after what was received, so that the answer's last chunk never comes."""
    if request.transport is not None:
        request.transport.close()


def _reason(error: aiohttp.ClientError | OSError) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else error.os_error.strerror or "its name can't be resolved"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "its answer is not HTTP"
    return type(error).__name__
