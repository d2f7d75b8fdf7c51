"""What servers on loopback that demand a token have in common: what was presented is noted, answers are JSON.

A module with a Handler ends with ``serve(Handler)``: it takes ``--token TOKEN --log FILE``, with ``--certificate FILE
--key FILE`` it speaks TLS, with ``--port PORT`` it has that one, and it prints its port. Each request is one line of
JSON in the log: path, and what was presented (empty: nothing).
"""

import argparse
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class TokenHandler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    token: str
    log: Path

    def do_GET(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.respond()

    def respond(self) -> None:
        """Answer the request."""
        raise NotImplementedError

    def presented(self, scheme: str = "") -> str:
        """Return what the request presents, without the scheme's name; it is noted."""
        presented = self.headers.get("Authorization", "").removeprefix(scheme)
        with self.log.open("a") as out:
            out.write(json.dumps({"path": self.path, "presented": presented}) + "\n")
        return presented

    def answer(self, code: int, content: dict[str, object], headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send(code, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        """Answer with bytes."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""


def serve(handler: type[TokenHandler]) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    handler.token, handler.log = options.token, options.log
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"serving on {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
