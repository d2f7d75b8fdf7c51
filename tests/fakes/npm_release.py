"""A registry of npm's with one package in the version that comes next, as its maker publishes it.

    python -m tests.fakes.npm_release --package FOLDER --version VERSION

The package is that of a folder, as npm unpacked it, with another version and a comment more at the end of each of its
programs. Its optional dependencies are left out: they are not here. Prints its port.
"""

import argparse
import base64
import hashlib
import io
import json
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

Manifest = dict[str, object]
_TRAILER = b"\n// the next version\n"


def packed(folder: Path, version: str) -> tuple[Manifest, bytes]:
    """Return the manifest of the next version, and its tarball."""
    manifest = json.loads((folder / "package.json").read_text())
    manifest["version"] = version
    manifest.pop("optionalDependencies", None)
    programs = {Path(each) for each in manifest["bin"].values()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        _add(archive, "package.json", json.dumps(manifest).encode())
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and name.name != "package.json" and name.parts[0] != "node_modules":
                _add(archive, str(name), path.read_bytes() + (_TRAILER if name in programs else b""))
    return manifest, out.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"package/{name}")
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    manifest: Manifest
    tarball: bytes

    def do_GET(self) -> None:
        name, version = str(self.manifest["name"]), str(self.manifest["version"])
        if self.path.endswith(".tgz"):
            self._answer(200, self.tarball, "application/octet-stream")
        elif unquote(self.path) == f"/{name}":
            digest = base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
            url = f"http://{self.headers['Host']}/next.tgz"
            release = {**self.manifest, "dist": {"tarball": url, "integrity": f"sha512-{digest}"}}
            known = {"name": name, "dist-tags": {"latest": version}, "versions": {version: release}}
            self._answer(200, json.dumps(known).encode(), "application/json")
        else:
            self._answer(404, b'{"error": "not found"}', "application/json")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--version", required=True)
    options = parser.parse_args()
    Handler.manifest, Handler.tarball = packed(options.package, options.version)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"serving on {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
