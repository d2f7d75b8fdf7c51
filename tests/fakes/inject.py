"""The injection endpoint on real sockets, between a real mock provider and the fakes of tests.fakes.issuer."""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_broker.clock import SystemClock
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.endpoint import Endpoint
from agent_broker.inject.forward import Forwarder
from agent_broker.inject.google_tokens import MINTED
from agent_broker.inject.kinds import PROVIDERS
from agent_broker.inject.oauth import LoginWatch, TokenKeeper
from agent_broker.inject.peer import PeerFinder, SocketLike
from agent_broker.inject.phantom import CREDENTIAL_ATTRIBUTE, PhantomBook, new_phantom
from agent_broker.inject.sock_diag import SockDiag
from agent_broker.inject.upstream import Upstreams
from tests.fakes.issuer import MemoryVault, PlainDecoys, PlainIssuer, ProcMonitor
from tests.fakes.mock_provider import MockProvider

REAL_KEY = "sk-ant-api03-the-real-key"


class InjectWorld:
    """An endpoint whose client is, by default, this very process: it is the enrolled agent."""

    def __init__(self, provider: MockProvider) -> None:
        self.provider = provider
        self.clock = SystemClock()
        self.vault = MemoryVault()
        self.monitor = ProcMonitor(os.getpid())
        self.issuer = PlainIssuer(self.vault)
        self.decoys = PlainDecoys()
        self.watch: LoginWatch | None = None
        self.book = PhantomBook(self.vault)
        self.phantom = new_phantom()
        self.base_url = ""
        self.unix_path = ""
        self.use("anthropic-api-key", REAL_KEY.encode())

    @property
    def bearer(self) -> dict[str, str]:
        """The headers of an agent that was enrolled."""
        return {"Authorization": f"Bearer {self.phantom}"}

    @property
    def connections(self) -> int:
        """How many connections the endpoint holds now."""
        return len(self._endpoint._connections)

    def use(self, kind: str, secret: bytes, attributes: dict[str, str] | None = None) -> None:
        """Make this the credential behind the phantom."""
        credential = self.vault.put("active", kind, secret, attributes)
        self.vault.put("phantom", "phantom", self.phantom.encode(), {CREDENTIAL_ATTRIBUTE: credential})
        self.book.reload()

    def make_caller(self, connection: SocketLike) -> ConnectionCaller:
        """Return the caller of a new connection."""
        return ConnectionCaller(connection, PeerFinder(self._diag, self.clock), self.monitor)

    @asynccontextmanager
    async def serving(
        self,
        folder: Path,
        *,
        upstream: str = "",
        tls: ssl.SSLContext | None = None,
        per_user: int = 64,
        idle_read_timeout_s: float = 60,
    ) -> AsyncIterator["InjectWorld"]:
        """Serve on a free loopback port and on ``folder/inject.sock``."""
        self._diag = SockDiag()
        tcp = socket.create_server(("127.0.0.1", 0))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(folder / "inject.sock"))
        unix.listen()
        self.base_url, self.unix_path = f"http://127.0.0.1:{tcp.getsockname()[1]}", str(folder / "inject.sock")
        urls = {"anthropic-oauth": "/v1/oauth/token", **dict.fromkeys(MINTED, "/token")}
        self.tokens = TokenKeeper(
            self.vault,
            self.clock,
            token_urls={kind: self.provider.base_url + path for kind, path in urls.items()},
            tls=tls,
            watch=self.watch,
        )
        self._endpoint = endpoint = Endpoint(
            issuer=self.issuer,
            book=self.book,
            make_caller=self.make_caller,
            upstreams=Upstreams(dict.fromkeys(PROVIDERS, upstream or self.provider.base_url)),
            tokens=self.tokens,
            forwarder=Forwarder(tls, idle_read_timeout_s=idle_read_timeout_s),
            decoys=self.decoys,
            max_connections_per_user=per_user,
        )
        await endpoint.serve([tcp, unix])
        try:
            yield self
        finally:
            await endpoint.close()
            self._diag.close()
