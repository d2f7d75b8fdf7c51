"""A package index that demands Basic authentication (PEP 503), with one package, and takes uploads; on loopback.

    python -m tests.fakes.index_server --login USER:PASSWORD --log FILE

Prints its port. Each request is one line of JSON in the log: path, and what was presented (empty: nothing).
"""

import argparse
import base64
import hashlib
import io
import json
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PACKAGE = "nothing"
WHEEL = f"{PACKAGE}-1.0-py3-none-any.whl"


def wheel() -> bytes:
    """Return a package with one empty module."""
    info = f"{PACKAGE}-1.0.dist-info"
    files = {
        f"{PACKAGE}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in (*files.items(), (f"{info}/RECORD", record)):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return packed.getvalue()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    login: str
    log: Path
    content = wheel()

    def do_GET(self) -> None:
        if not self._is_allowed():
            return
        if self.path.endswith(WHEEL):
            self._answer(200, self.content, "application/octet-stream")
        elif self.path.rstrip("/").endswith(f"/simple/{PACKAGE}"):
            digest = hashlib.sha256(self.content).hexdigest()
            link = f'<!DOCTYPE html><html><body><a href="/files/{WHEEL}#sha256={digest}">{WHEEL}</a></body></html>'
            self._answer(200, link.encode(), "text/html")
        else:
            self._answer(404, b"no such package", "text/plain")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._is_allowed():
            self._answer(200, b"OK", "text/plain")

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""

    def _is_allowed(self) -> bool:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        presented = base64.b64decode(value).decode() if kind == "Basic" else kind
        with self.log.open("a") as out:
            out.write(json.dumps({"path": self.path, "presented": presented}) + "\n")
        if presented == self.login:
            return True
        self._answer(401, b"a login is needed", "text/plain", {"WWW-Authenticate": 'Basic realm="index"'})
        return False

    def _answer(self, code: int, content: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--login", required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    Handler.login, Handler.log = options.login, options.log
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"serving on {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
