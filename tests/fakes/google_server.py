"""Google on loopback: a token endpoint that verifies what it is shown, and a storage that lists one bucket.

    python -m tests.fakes.google_server --mode FILE --log FILE

Prints its port. The mode file has what tests.fakes.cloud_logins.google_mode says. Each request to the storage is one
line of JSON in the log: its path, and whether it came with a token that was given here.
"""

import argparse
import json
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

from tests.fakes.cloud_apis import grant_problem
from tests.fakes.mock_provider import Mode


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    mode: Mode
    log: Path
    given: set[str]

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        problem = grant_problem(form, self.mode)
        if problem:
            self._answer(400, {"error": "invalid_grant", "error_description": problem})
            return
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self.given.add(token)
        self._answer(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        is_known = token in self.given
        with self.log.open("a") as out:
            out.write(json.dumps({"path": self.path, "known": is_known}) + "\n")
        self._answer(200 if is_known else 401, {"items": [{"name": "bucket"}]} if is_known else {"error": "no token"})

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""

    def _answer(self, code: int, content: dict[str, object]) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    Handler.mode = Mode(**json.loads(options.mode.read_text()))
    Handler.log, Handler.given = options.log, set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"serving on {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
