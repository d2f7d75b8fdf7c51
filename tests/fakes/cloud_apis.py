"""The models' providers, and besides them the clouds that resell models: Bedrock of AWS, Vertex AI of Google.

Strict where the real ones are. Bedrock takes a request only if its signature is the one that botocore's own code
computes from the secret key (``mode.aws_keys``), for the service ``bedrock``, of the last minutes, over the body that
came. Google's token endpoint takes a JWT only if google-auth verifies it with the account's public key
(``mode.google_accounts``), and a refresh token only from its own client (``mode.google_logins``). Vertex takes only
tokens that were given there.

What was verified is recorded in place of a signature: ``AWS4 KEY-ID/REGION/SERVICE``.

    python -m tests.fakes.cloud_apis --port 18080 --log seen.jsonl --mode mode.json
"""

import base64
import hmac
import json
import re
import struct
import zlib
from datetime import UTC, datetime
from urllib.parse import urlsplit

import google.auth.jwt
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.mock_provider import Mode, Turn, held_back, main
from tests.fakes.model_apis import ModelProvider

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<signed>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_MUST_BE_SIGNED = {"host", "x-amz-date"}
_FRESH_S = 300
_AUDIENCE = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_PROFILES = {
    "inferenceProfileSummaries": [
        {
            "inferenceProfileId": f"{where}.{model}",
            "inferenceProfileArn": f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{where}.{model}",
            "inferenceProfileName": model,
            "models": [],
            "status": "ACTIVE",
            "type": "SYSTEM_DEFINED",
        }
        for where in ("us", "eu", "global")
        for model in ("anthropic.claude-opus-5-5", "anthropic.claude-haiku-4-5-20251001-v1:0")
    ]
}
"""As ListInferenceProfiles answers."""


class CloudProvider(ModelProvider):
    """See the module.

    Attributes:
        refusals: why requests to a cloud were refused, oldest first.
        given: the access tokens that the token endpoint gave.
        grants: the grant type of each token request.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.refusals: list[str] = []
        self.given: set[str] = set()
        self.grants: list[str] = []

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        mode = self._current_mode()
        if request.path.startswith(("/model/", "/inference-profiles")):
            return await self._bedrock(request, mode)
        if request.path == "/token" and (mode.google_accounts or mode.google_logins):
            return await self._google_token(request, mode)
        if "/publishers/" in request.path and (mode.google_accounts or mode.google_logins):
            return await self._vertex(request)
        return await super()._answer(request)

    async def _bedrock(self, request: web.Request, mode: Mode) -> web.StreamResponse:
        body = await request.read()
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith("AWS4"):
            told, problem = verified(request.method, str(request.url), dict(request.headers), body, mode.aws_keys)
            if problem:
                return self._refused(403, problem)
            seen = await self._record(request, instead={"authorization": told})
        else:
            seen = await self._record(request)
            if any(value in authorization for value in mode.reject) or not authorization.startswith("Bearer "):
                return self._refused(403, "no bearer token")
        if request.path.startswith("/inference-profiles"):
            return web.json_response(_PROFILES)
        mode = self._mode_for(seen)
        turn = Turn(seen.json if isinstance(seen.json, dict) else {}, mode, len(self.seen))
        if not request.path.endswith("/invoke-with-response-stream"):
            return web.json_response(turn.whole())
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
        await response.prepare(request)
        for sent, event in enumerate(turn.events()):
            await held_back(mode, sent)
            await response.write(event_frame(event))
        return response

    async def _google_token(self, request: web.Request, mode: Mode) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.grants.append(form.get("grant_type", ""))
        problem = grant_problem(form, mode)
        await self._record(request)
        if mode.token_status != 200 or problem:
            self.refusals.append(problem or f"told to answer {mode.token_status}")
            return web.json_response(
                {"error": "invalid_grant", "error_description": problem},
                status=mode.token_status if not problem else 400,
            )
        token = mode.new_access or f"ya29.given-{len(self.given)}"
        self.given.add(token)
        answer = {"access_token": token, "expires_in": mode.token_lifetime_s, "token_type": "Bearer"}
        return web.json_response(answer)

    async def _vertex(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.given or token in self._current_mode().reject:
            await self._record(request)
            return self._refused(401, "an access token that was not given here")
        if "awPredict" not in request.path:
            return await self._gemini(request)
        seen = await self._record(request)
        return await self._messages(request, seen, self._current_mode())

    def _refused(self, status: int, problem: str) -> web.Response:
        self.refusals.append(problem)
        return web.json_response({"message": problem}, status=status)


def verified(
    method: str, url: str, headers: dict[str, str], body: bytes, keys: dict[str, list[str]]
) -> tuple[str, str]:
    """Return what a signature says, and what is wrong with it: computed by botocore from what came."""
    lower = {name.lower(): value for name, value in headers.items()}
    found = _AUTHORIZATION.fullmatch(lower.get("authorization", ""))
    if found is None:
        return "", "the Authorization is not one of AWS"
    names = set(found["signed"].split(";"))
    unsigned = {name for name in lower if name.startswith("x-amz-")} - names
    if not names >= _MUST_BE_SIGNED or unsigned:
        return "", f"headers that are not signed: {sorted(unsigned or _MUST_BE_SIGNED - names)}"
    if found["id"] not in keys:
        return "", "an access key id that nobody has"
    secret, token = keys[found["id"]]
    date = lower["x-amz-date"]
    if lower.get("x-amz-security-token", "") != token or not _is_fresh(date, found["day"]):
        return "", "another session token, or not signed just now"
    signer = SigV4Auth(Credentials(found["id"], secret, token or None), found["service"], found["region"])
    request = AWSRequest(method, url, headers={name: lower[name] for name in names}, data=body)
    request.context["timestamp"] = date
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if not hmac.compare_digest(signature, found["signature"]):
        return "", f"another signature than botocore's for {urlsplit(url).path}"
    return f"AWS4 {found['id']}/{found['region']}/{found['service']}", ""


def _is_fresh(date: str, day: str) -> bool:
    signed = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return abs((datetime.now(UTC) - signed).total_seconds()) <= _FRESH_S and date.startswith(day)


def grant_problem(form: dict[str, str], mode: Mode) -> str:
    """Return what is wrong with a request for an access token; empty: nothing."""
    if form.get("grant_type") == "refresh_token":
        client = mode.google_logins.get(form.get("refresh_token", ""))
        return "" if client == [form.get("client_id"), form.get("client_secret")] else "another client, or login"
    if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
        return "another grant"
    assertion = form.get("assertion", "")
    try:
        issuer = google.auth.jwt.decode(assertion, verify=False)["iss"]
        claims = google.auth.jwt.decode(assertion, certs=mode.google_accounts.get(issuer, ""), audience=_AUDIENCE)
    except (ValueError, KeyError) as error:
        return f"google-auth: {error}"
    return "" if claims["scope"] == _SCOPE and claims["exp"] - claims["iat"] <= 3600 else "another scope or lifetime"


def event_frame(event: dict[str, object]) -> bytes:
    """Return one event as Bedrock sends it: a message of ``application/vnd.amazon.eventstream``."""
    chunk = {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    packed = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    payload = json.dumps(chunk).encode()
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return message + struct.pack(">I", zlib.crc32(message))


if __name__ == "__main__":
    main(CloudProvider)
