"""A cluster's API server over TLS, on loopback: it knows one namespace with one pod, and who may see it.

    python -m tests.fakes.kube_server --log FILE --certificate FILE --key FILE [--token TOKEN] [--authority FILE]

Prints its port. Whoever presents the token, or a certificate that the authority signed, is let in. Each request is one
line of JSON in the log: path, the bearer's token (empty: none), the certificate's name (empty: none), and the code.
While the file ``--once`` is there, the next one who would be let in is not, and the file goes.
"""

import argparse
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_VERSION = {"major": "1", "minor": "30", "gitVersion": "v1.30.4", "platform": "linux/amd64"}
_POD = {
    "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "web", "image": "web"}]}, "status": {"phase": "Running"},
}  # fmt: skip
_RESOURCE = {
    "name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"],
}  # fmt: skip
_ANSWERS: dict[str, dict[str, Any]] = {
    "/version": _VERSION,
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [_RESOURCE]},
    "/api/v1/namespaces/default/pods": {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [_POD]},
}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    token = ""
    log: Path
    once: Path

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        name = _name_of(self.connection)
        known = bool(name) or (bool(self.token) and token == self.token)
        code = 401 if not known else 200 if path in _ANSWERS else 404
        if code != 401 and self.once.exists():
            self.once.unlink()
            code = 401
        with self.log.open("a") as out:
            out.write(json.dumps({"path": self.path, "token": token, "name": name, "code": code}) + "\n")
        self._answer(code, _ANSWERS.get(path, {}) if code == 200 else _status(code))

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""

    def _answer(self, code: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _status(code: int) -> dict[str, Any]:
    reason = {401: "Unauthorized", 404: "NotFound"}[code]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": reason,
        "code": code,
    }


def _name_of(connection: Any) -> str:
    presented = connection.getpeercert() or {}
    names = [value for part in presented.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if names else ""


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", default="")
    parser.add_argument("--authority", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--once", type=Path, default=Path("/nonexistent"))
    options = parser.parse_args()
    Handler.token, Handler.log, Handler.once = options.token, options.log, options.once
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    if options.authority is not None:
        context.load_verify_locations(options.authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"serving on {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
