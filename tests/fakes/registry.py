"""A container registry on loopback that gives one small image to whoever logs in, and remembers who did."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry:
    """See the module; a context manager.

    Attributes:
        logins: of each request that was let in, the name.
    """

    def __init__(self, name: str, password: str) -> None:
        self.logins: list[str] = []
        self._name = name
        self._wanted = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        self._blobs, self._manifest = _image()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry._answer(self)

            def do_HEAD(self) -> None:
                registry._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.headers.get("Authorization") != self._wanted:
            self._send(request, 401, b"{}", "application/json", ("WWW-Authenticate", 'Basic realm="a registry"'))
            return
        self.logins.append(self._name)
        last = request.path.rpartition("/")[2]
        if "/manifests/" in request.path:
            self._send(request, 200, self._manifest, _MANIFEST)
        elif last in self._blobs:
            self._send(request, 200, self._blobs[last], "application/octet-stream")
        else:
            self._send(request, 200, b"{}", "application/json")

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, *more: tuple[str, str]) -> None:
        request.send_response(status)
        digest = ("Docker-Content-Digest", _digest(body))
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), digest, *more):
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


def _image() -> tuple[dict[str, bytes], bytes]:
    """Return the blobs by their digest, and the manifest: one layer with one file."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    layer = gzip.compress(raw.getvalue(), mtime=0)
    root = {"type": "layers", "diff_ids": [_digest(raw.getvalue())]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "size": len(config), "digest": _digest(config)},
        "layers": [{"mediaType": _LAYER, "size": len(layer), "digest": _digest(layer)}],
    }
    return {_digest(each): each for each in (config, layer)}, json.dumps(manifest).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
