"""Microsoft's login, and a server that wants its tokens, on loopback.

    python -m tests.fakes.entra_server --mode MODE.json --log LOG

``MODE.json`` is read at each request: ``secrets`` (client id: secret), ``certificates`` (client id: PEM of the
certificate), ``lifetime_s`` of tokens. A JWT is taken only if google-auth verifies it with the client's certificate,
for Microsoft's own address as its audience. The server (``GET``) takes tokens that were given here for its own address.
Prints its port. Each request is one line of JSON in the log.
"""

import argparse
import base64
import hashlib
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import google.auth.jwt
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

_TOKEN_URL = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    mode_file: Path
    log: Path
    given: dict[str, tuple[str, float]]
    """Scope and end (Unix time) by token."""

    def do_POST(self) -> None:
        tenant = self.path.split("/")[1]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        mode = json.loads(self.mode_file.read_text())
        problem = _problem(form, tenant, mode)
        self._note(action="token", client=form.get("client_id", ""), scope=form.get("scope", ""), ok=not problem)
        if problem:
            self._answer(401, {"error": "invalid_client", "error_description": f"AADSTS7000215: {problem}"})
            return
        lifetime_s = mode.get("lifetime_s", 3599)
        token = f"eyJ0.{secrets.token_urlsafe(24)}"
        self.given[token] = (form["scope"], time.time() + lifetime_s)
        self._answer(200, {"token_type": "Bearer", "expires_in": lifetime_s, "access_token": token})

    def do_GET(self) -> None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        scope, ends = self.given.get(token, ("", 0.0))
        good = kind == "Bearer" and ends > time.time() and scope == f"http://{self.headers['Host']}/.default"
        self._note(action="use", ok=good)
        self._answer(200 if good else 401, {"value": "used" if good else "no"})

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""

    def _note(self, **facts: object) -> None:
        with self.log.open("a") as out:
            out.write(json.dumps(facts) + "\n")

    def _answer(self, code: int, content: dict[str, object]) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _problem(form: dict[str, str], tenant: str, mode: dict) -> str:
    client = form.get("client_id", "")
    if form.get("grant_type") != "client_credentials" or not form.get("scope", "").endswith("/.default"):
        return "another grant, or no scope"
    if "client_secret" in form:
        known = mode.get("secrets", {}).get(client)
        return "" if known is not None and known == form["client_secret"] else "Invalid client secret provided"
    certificate = mode.get("certificates", {}).get(client, "")
    if form.get("client_assertion_type") != _JWT_BEARER or not certificate:
        return "no proof"
    return _assertion_problem(form["client_assertion"], client, tenant, certificate)


def _assertion_problem(assertion: str, client: str, tenant: str, certificate: str) -> str:
    der = load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER)
    header = google.auth.jwt.decode_header(assertion)
    if base64.urlsafe_b64decode(header["x5t"] + "==") != hashlib.sha1(der).digest():  # noqa: S324 - x5t is that
        return "another certificate"
    try:
        claims = google.auth.jwt.decode(assertion, certs=certificate, audience=_TOKEN_URL.format(tenant=tenant))
    except ValueError as error:
        return f"google-auth: {error}"
    good = claims["iss"] == claims["sub"] == client and claims["exp"] - claims["iat"] <= 600 and claims["jti"]
    return "" if good else "other claims"


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    Handler.mode_file, Handler.log, Handler.given = options.mode, options.log, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"serving on {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
