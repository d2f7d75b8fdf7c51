"""Where Claude Code's own installer gets versions from, on loopback: as it is made to see the vendor's host.

The installer can't be told another host. It gets a proxy and an authority, and takes what answers there for the
vendor's: so could whoever else decides these two for it, which ``[updates] approve = "own-updater"`` has to live with.
"""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

from aiohttp import web

from tests.fakes.false_internet import Authority, Proxy

HOST = "downloads.claude.ai"
_PLATFORM = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}[os.uname().machine]


class Releases:
    """A context manager: every version that is asked for is the same program, without a signature."""

    def __init__(self, program: Path) -> None:
        self._program = program
        with program.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.authority = Authority((HOST,))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._proxy: Proxy

    def __enter__(self):
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def environment(self, authority: Path) -> dict[str, str]:
        """Return what leads the installer here; ``authority``: where its file is, readable by the user."""
        proxy = f"http://127.0.0.1:{self._proxy.port}"
        return {"HTTPS_PROXY": proxy, "NODE_EXTRA_CA_CERTS": str(authority)}

    @property
    def asked_hosts(self) -> list[str]:
        """Return to whom it wanted to connect, one entry a connection."""
        return self._proxy.hosts

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/claude-code-releases/{version}/manifest.json", self._manifest)
        app.router.add_get(f"/claude-code-releases/{{version}}/{_PLATFORM}/claude", self._binary)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.authority.server_context()).start()
        self._proxy = Proxy((HOST,), self._runner.addresses[0][1])
        await self._proxy.start()

    async def _stop(self) -> None:
        await self._proxy.stop()
        await self._runner.cleanup()

    async def _manifest(self, request: web.Request) -> web.Response:
        entry = {"binary": "claude", "checksum": self.sha256, "size": self._program.stat().st_size}
        return web.json_response({"version": request.match_info["version"], "platforms": {_PLATFORM: entry}})

    async def _binary(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(self._program)
