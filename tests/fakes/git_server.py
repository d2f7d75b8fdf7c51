"""A git server that demands Basic authentication: git's own http-backend behind Python's server, on loopback.

    python -m tests.fakes.git_server --port 0 --root FOLDER --login USER:PASSWORD --log FILE

Prints its address. Each request is one line of JSON in the log: path, and what was presented (empty: nothing).
"""

import argparse
import base64
import binascii
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_BACKEND = "git"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    root: str
    login: str
    log: Path

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""

    def _serve(self) -> None:
        body = self._body()
        presented = _presented(self.headers.get("Authorization", ""))
        with self.log.open("a") as out:
            out.write(json.dumps({"path": self.path, "presented": presented}) + "\n")
        if presented != self.login:
            self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"no\n")
            return
        code, headers, content = self._backend(body)
        self._answer(code, headers, content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _backend(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """CGI, as git-http-backend(1) has it."""
        parts = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": "somebody",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run([_BACKEND, "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n"))]
        status = next((value for name, value in headers if name == "Status"), "200")
        return int(status.split()[0]), [each for each in headers if each[0] not in {"Status", ""}], content

    def _answer(self, code: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _presented(header: str) -> str:
    kind, _, value = header.partition(" ")
    try:
        return base64.b64decode(value).decode() if kind == "Basic" else header
    except (binascii.Error, UnicodeDecodeError):
        return header


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--root", required=True)
    parser.add_argument("--login", required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    Handler.root, Handler.login, Handler.log = options.root, options.login, options.log
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    sys.stdout.write(f"serving on {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
