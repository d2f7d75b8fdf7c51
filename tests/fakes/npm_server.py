"""A registry of npm's that demands a bearer token and has one package; see token_server."""

import base64
import hashlib
import io
import json
import tarfile

from tests.fakes.token_server import TokenHandler, serve

PACKAGE = "nothing"


def _tarball() -> bytes:
    """Return the package: its manifest alone."""
    manifest = json.dumps({"name": PACKAGE, "version": "1.0.0"}).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))
    return packed.getvalue()


TARBALL = _tarball()


class Handler(TokenHandler):
    """One request."""

    def respond(self) -> None:
        if self.presented("Bearer ") != self.token:
            self.answer(401, {"error": "a token is needed"})
        elif self.path == f"/{PACKAGE}":
            tarball = f"http://{self.headers['Host']}/{PACKAGE}/-/{PACKAGE}-1.0.0.tgz"
            digest = base64.b64encode(hashlib.sha512(TARBALL).digest()).decode()
            dist = {"tarball": tarball, "integrity": f"sha512-{digest}"}
            version = {"name": PACKAGE, "version": "1.0.0", "dist": dist}
            self.answer(200, {"name": PACKAGE, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}})
        elif self.path.endswith(".tgz"):
            self.send(200, TARBALL, {"Content-Type": "application/octet-stream"})
        else:
            self.answer(404, {"error": "not found"})


if __name__ == "__main__":
    serve(Handler)
