"""STS and S3 of AWS on loopback: each request is answered only if botocore computes the same signature from its key.

    python -m tests.fakes.aws_server --mode MODE.json --log LOG

``MODE.json`` is read at each request: ``keys`` (id: [secret, token]), ``roles`` (ARN: external id, or empty),
``lifetime_s`` of every session (0: as asked), ``deny`` (actions of STS that are not allowed), ``late_s`` (how long STS
thinks). Prints its port. Each request is one line of JSON in the log: service, action, key, what the session may
do, and whether it was answered.

As STS is documented: sessions last 900 s or more; one from GetSessionToken can't get another, nor one from a role; a
session policy narrows. S3 knows two buckets, and says no to a write if the session's policy is read-only.
"""

import argparse
import json
import secrets
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from tests.fakes.cloud_apis import verified

_READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
_LONGEST_S = {"GetSessionToken": 129_600, "GetFederationToken": 129_600, "AssumeRole": 43_200}
_BUCKETS = "".join(f"<Bucket><Name>{name}</Name></Bucket>" for name in ("first", "second"))


class Aws:
    """What both services know.

    Attributes:
        begun: how many requests STS has begun to answer.
        sessions: secret, token, policy and end (Unix time) by access key id.
    """

    def __init__(self, mode: Path, log: Path) -> None:
        self._mode = mode
        self._log = log
        self._lock = threading.Lock()
        self.begun = 0
        self.sessions: dict[str, tuple[str, str, str, float]] = {}

    @property
    def mode(self) -> dict:
        return json.loads(self._mode.read_text())

    def keys(self) -> dict[str, list[str]]:
        """Return every pair that is good now."""
        now = time.time()
        live = {key: [secret, token] for key, (secret, token, _, end) in self.sessions.items() if end > now}
        return {**self.mode["keys"], **live}

    def note(self, **facts: object) -> None:
        """Write a line of the log."""
        with self._lock, self._log.open("a") as out:
            out.write(json.dumps(facts) + "\n")

    def sts(self, key: str, form: dict[str, str]) -> tuple[int, str]:
        """Answer an action of STS."""
        action, mode = form.get("Action", ""), self.mode
        self.begun += 1
        time.sleep(mode.get("late_s", 0))
        asked_s = int(form.get("DurationSeconds", "3600"))
        problem = self._problem(action, key, form, asked_s)
        policy = form.get("PolicyArns.member.1.arn", "") or form.get("Policy", "")
        self.note(service="sts", action=action, key=key, policy=policy, seconds=asked_s, ok=not problem)
        if problem:
            return 403, _error("AccessDenied", problem)
        if action == "GetCallerIdentity":
            return 200, _result(
                action, f"<Arn>arn:aws:sts::123456789012:key/{key}</Arn><Account>123456789012</Account>"
            )
        name, secret, token = (f"{prefix}{secrets.token_hex(8).upper()}" for prefix in ("ASIA", "secret", "token"))
        end = time.time() + (mode.get("lifetime_s") or asked_s)
        self.sessions[name] = (secret, token, policy, end)
        stamp = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, _result(
            action,
            f"<Credentials><AccessKeyId>{name}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
            f"<SessionToken>{token}</SessionToken><Expiration>{stamp}</Expiration></Credentials>",
        )

    def _problem(self, action: str, key: str, form: dict[str, str], asked_s: int) -> str:
        if action == "GetCallerIdentity":
            return ""
        if action not in _LONGEST_S or not 900 <= asked_s <= _LONGEST_S[action] or action in self.mode.get("deny", ()):
            return f"not authorized to perform: sts:{action}"
        if action != "AssumeRole":
            return "Cannot call with session credentials" if key in self.sessions else ""
        roles = self.mode.get("roles", {})
        known = form.get("RoleArn") in roles and form.get("RoleSessionName")
        if not known or roles[form["RoleArn"]] != form.get("ExternalId", ""):
            return "not authorized to perform: sts:AssumeRole"
        return ""

    def s3(self, method: str, key: str) -> tuple[int, str]:
        """Answer S3."""
        policy = self.sessions[key][2] if key in self.sessions else ""
        narrow = method != "GET" and policy == _READ_ONLY
        self.note(service="s3", action=method, key=key, policy=policy, ok=not narrow)
        if narrow:
            return 403, _error("AccessDenied", "Access Denied")
        return 200, f"<ListAllMyBucketsResult><Buckets>{_BUCKETS}</Buckets></ListAllMyBucketsResult>"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    aws: Aws

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Say nothing: the log has it."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = f"http://{self.headers['Host']}{self.path}"
        told, problem = verified(self.command, url, dict(self.headers), body, self.aws.keys())
        if problem:
            self.aws.note(service="?", action=self.command, key="", problem=problem, ok=False)
            self._answer(403, _error("InvalidClientTokenId", problem))
            return
        key, _, service = told.removeprefix("AWS4 ").split("/")
        if service == "sts":
            text = body.decode() or urlsplit(self.path).query
            self._answer(*self.aws.sts(key, {name: values[0] for name, values in parse_qs(text).items()}))
        else:
            self._answer(*self.aws.s3(self.command, key))

    def _answer(self, code: int, text: str) -> None:
        content = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _result(action: str, content: str) -> str:
    return f"<{action}Response><{action}Result>{content}</{action}Result></{action}Response>"


def _error(code: str, text: str) -> str:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>{escape(text)}</Message></Error></ErrorResponse>"


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    Handler.aws = Aws(options.mode, options.log)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"serving on {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
