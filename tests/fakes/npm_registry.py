"""An npm registry on loopback that knows one token: who logs in with it is told a name, everybody else 401."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER = "whoever-has-the-token"


class NpmRegistry:
    """See the module.

    Attributes:
        token: the one that is let in.
        seen: what was presented, in order.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.seen: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                presented = self.headers.get("Authorization", "")
                registry.seen.append(presented)
                is_in = presented == f"Bearer {registry.token}"
                body = json.dumps({"username": USER} if is_in else {"error": "unauthorized"}).encode()
                self.send_response(200 if is_in else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self.server.server_address[1])


@contextlib.contextmanager
def running_npm_registry(token: str) -> Iterator[NpmRegistry]:
    """Serve until the block is left."""
    registry = NpmRegistry(token)
    thread = threading.Thread(target=registry.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        registry.server.shutdown()
        thread.join()
        registry.server.server_close()
