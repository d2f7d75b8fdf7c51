"""The login servers of the three vendors on loopback: one world with accounts, refresh tokens and a clock of its own.

It is strict where the real ones are: another client id or secret, or another encoding, is refused; a refresh token that
was rotated and comes again ends the whole login (reuse detection), unless ``forgives_reuse``. Tests change its
attributes by assignment. ``Requests`` of agents' own logins (device codes, authorization codes) are answered too.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from email.utils import formatdate
from typing import Self

from aiohttp import web

from agent_broker.inject.oauth_servers import ANTHROPIC, GOOGLE, OPENAI

PATHS = {ANTHROPIC.kind: "/v1/oauth/token", OPENAI.kind: "/oauth/token", GOOGLE.kind: "/token"}
_BY_PATH = {path: kind for kind, path in PATHS.items()}
_CLIENTS = {
    ANTHROPIC.kind: ("9d1c250a-e61b-44d9-88ed-5944d1962f5e", "", "application/json"),
    OPENAI.kind: ("app_EMoamEEZ73f0CkXaXp7hrann", "", "application/json"),
    GOOGLE.kind: (
        "681255809395-oo8ft2oprdrnp9e3aqf6av3hmdib135j.apps.googleusercontent.com",
        "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",
        "application/x-www-form-urlencoded",
    ),
}
"""Client id, client secret and encoding of a refresh as the released CLIs were seen to send them: not the product's."""


def jwt(**claims: object) -> str:
    """Return a token of JWT form; its signature is nonsense."""
    parts = (
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in ({"alg": "x"}, claims)
    )
    return ".".join((*parts, "c2lnbmF0dXJl"))


class LoginWorld:
    """See the module; a context manager. Times are its own: ``now_s`` is asked for each answer's Date."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self.lifetime_s = 3600
        self.opaque = False
        """OpenAI's access tokens are no JWT."""
        self.forgives_reuse = False
        self.revoked = False
        self.fails = 0
        """A status that is answered to everything, until it is 0 again."""
        self.delay_s = 0.0
        self.requests: list[tuple[str, dict[str, str]]] = []
        """(kind, parameters) of each token request."""
        self.on_token: Callable[[], None] = lambda: None
        """Called when new tokens are made, before they are answered."""
        self.access: set[str] = set()
        """Access tokens that were given."""
        self._current: dict[str, str] = {}
        self._used: set[str] = set()
        self._number = 0
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_urls(self) -> dict[str, str]:
        return {kind: self.base_url + path for kind, path in PATHS.items()}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]

    def log_in(self, kind: str, left_s: float = 3600) -> dict[str, object]:
        """Return the tokens of a fresh login as the agent's own file holds them."""
        tokens = self._new_tokens(kind)
        expires_ms = int((self.now_s() + left_s) * 1000)
        if kind == ANTHROPIC.kind:
            made = {"accessToken": tokens["access_token"], "refreshToken": tokens["refresh_token"]}
            return {**made, "expiresAt": expires_ms, "scopes": ["user:inference"]}
        if kind == GOOGLE.kind:
            return {**tokens, "expiry_date": expires_ms, "token_type": "Bearer", "scope": "s"}
        access = tokens["access_token"] if self.opaque else jwt(exp=expires_ms // 1000, n=self._number)
        return {**tokens, "access_token": access, "account_id": "acc"}

    def refreshes(self, kind: str) -> list[dict[str, str]]:
        return [form for each, form in self.requests if each == kind and form["grant_type"] == "refresh_token"]

    async def _handle(self, request: web.Request) -> web.Response:
        kind = _BY_PATH.get(request.path)
        if kind is not None:
            return await self._token(request, kind)
        answer = _ANSWERS.get(request.path)
        return web.json_response(answer) if answer is not None else web.json_response({"error": "unknown"}, status=404)

    async def _token(self, request: web.Request, kind: str) -> web.Response:
        is_json = request.content_type == "application/json"
        form = await request.json() if is_json else {key: str(value) for key, value in (await request.post()).items()}
        self.requests.append((kind, form))
        await asyncio.sleep(self.delay_s)
        problem = self._problem(kind, form, request.content_type)
        if self.fails or problem:
            return self._answer({"error": problem or "server_error"}, self.fails or 400)
        tokens = self._new_tokens(kind)
        self.on_token()
        answer: dict[str, object] = {**tokens, "token_type": "Bearer"}
        if kind != OPENAI.kind:
            answer["expires_in"] = self.lifetime_s
        if kind == GOOGLE.kind and form["grant_type"] == "refresh_token":
            del answer["refresh_token"]
        if kind == ANTHROPIC.kind:
            answer |= {"scope": "user:inference user:profile", "account": {"uuid": "u", "email_address": "a@b.example"}}
            answer |= {"organization": {"uuid": "o", "name": "o"}}
        return self._answer(answer, 200)

    def _problem(self, kind: str, form: dict[str, str], content_type: str) -> str:
        grant = form.get("grant_type")
        client_id, client_secret, encoding = _CLIENTS[kind]
        if (form.get("client_id"), form.get("client_secret", "")) != (client_id, client_secret):
            return "invalid_client"
        if grant == "authorization_code":
            return "" if form.get("code") else "invalid_grant"
        if grant != "refresh_token" or content_type != encoding:
            return "invalid_request"
        token = form.get("refresh_token", "")
        if token in self._used and not self.forgives_reuse:
            self.revoked = True
        is_known = token == self._current.get(kind) or token in self._used
        return "invalid_grant" if self.revoked or not is_known else ""

    def _new_tokens(self, kind: str) -> dict[str, str]:
        self._number += 1
        name, now_s = f"{kind}-{self._number}", int(self.now_s())
        access = f"{name}-access"
        if kind == OPENAI.kind and not self.opaque:
            access = jwt(iat=now_s, exp=now_s + self.lifetime_s, n=self._number)
        self.access.add(access)
        tokens = {"access_token": access}
        if kind != ANTHROPIC.kind:
            claims = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "acc"}
            tokens["id_token"] = jwt(
                exp=now_s + 3600, n=self._number, email="a@b.example", **{"https://api.openai.com/auth": claims}
            )
        if kind == GOOGLE.kind and kind in self._current:
            return {**tokens, "refresh_token": self._current[kind]}  # it stays
        if kind in self._current:
            self._used.add(self._current[kind])
        self._current[kind] = f"{name}-refresh"
        return {**tokens, "refresh_token": self._current[kind]}

    def _answer(self, body: dict[str, object], status: int) -> web.Response:
        return web.json_response(body, status=status, headers={"Date": formatdate(self.now_s(), usegmt=True)})


_ANSWERS = {
    "/api/accounts/deviceauth/usercode": {"device_auth_id": "device", "user_code": "ABCD-EFGH", "interval": "1"},
    "/api/accounts/deviceauth/token": {"authorization_code": "code", "code_challenge": "c", "code_verifier": "v"},
    "/oauth2/v2/userinfo": {"email": "a@b.example"},
    "/tokeninfo": {"expires_in": 3600},
    "/api/oauth/profile": {
        "account": {"uuid": "u", "email": "a@b.example", "display_name": "A", "has_claude_max": True},
        "organization": {"uuid": "o", "organization_type": "claude_max", "rate_limit_tier": "default_claude_max_5x"},
    },
    "/api/oauth/claude_cli/roles": {"organization_role": "user", "workspace_role": None, "organization_name": "o"},
}
