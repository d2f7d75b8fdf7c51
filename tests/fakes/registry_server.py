"""A container registry over TLS that demands Basic authentication and has one image, on loopback.

    python -m tests.fakes.registry_server --login USER:PASSWORD --log FILE --certificate FILE --key FILE

Prints its port. Each request is one line of JSON in the log: path, and what was presented (empty: nothing).
"""

import argparse
import base64
import hashlib
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_IMAGE = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
_CONFIG = {
    "mediaType": "application/vnd.docker.container.image.v1+json",
    "size": len(_IMAGE),
    "digest": f"sha256:{hashlib.sha256(_IMAGE).hexdigest()}",
}
_MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": _TYPE, "config": _CONFIG, "layers": []}, indent=3).encode()
_DESCRIBED = {
    "Content-Type": _TYPE,
    "Docker-Content-Digest": f"sha256:{hashlib.sha256(_MANIFEST).hexdigest()}",
}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    login: str
    log: Path

    def do_GET(self) -> None:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        presented = base64.b64decode(value).decode() if kind == "Basic" else kind
        with self.log.open("a") as out:
            out.write(json.dumps({"path": self.path, "presented": presented}) + "\n")
        if presented != self.login:
            self._answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": 'Basic realm="registry"'})
        elif "/manifests/" in self.path:
            self._answer(200, _MANIFEST, _DESCRIBED)
        elif "/blobs/" in self.path:
            self._answer(200, _IMAGE, {"Content-Type": "application/octet-stream"})
        else:
            self._answer(200, b"{}", {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""

    def _answer(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        always = {"Docker-Distribution-Api-Version": "registry/2.0", "Content-Length": str(len(content))}
        for name, value in {**headers, **always}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--login", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    options = parser.parse_args()
    Handler.login, Handler.log = options.login, options.log
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"serving on {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
