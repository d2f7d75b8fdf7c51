"""The HTTP client of what mints: one POST to one address, and nothing followed, kept or taken from the environment."""

from collections.abc import Mapping
from typing import Final

import aiohttp
from msgspec import Struct
from yarl import URL

from agent_broker.errors import UnavailableError

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20, sock_connect=10)  # seconds
_MAX_ANSWER_BYTES: Final = 256 << 10


class Answered(Struct, frozen=True):
    """What a server said."""

    status: int
    date: str | None
    """Its Date header."""
    body: bytes

    def __repr__(self) -> str:
        return f"<Answered {self.status}>"


class MintClient:
    """See the module. ``close`` in the end."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, whom: str, url: URL, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Post once; ``whom``: the server's name, for people.

        Raises:
            UnavailableError: no answer, or one that is too long.
        """
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True)
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, trust_env=False, cookie_jar=jar
            )
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                answer = bytearray()
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > _MAX_ANSWER_BYTES:
                        raise aiohttp.ClientPayloadError("too long")
                return Answered(response.status, response.headers.get("Date"), bytes(answer))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(
                f"{whom} does not answer ({type(error).__name__})", next_step="try again in a minute"
            ) from error

    async def close(self) -> None:
        """Let go of it."""
        if self._session is not None:
            await self._session.close()
