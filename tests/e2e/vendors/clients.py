"""Codex and Gemini CLI with the logins that the broker keeps alive: ChatGPT's and Google's."""

import base64
import json
import time
from collections.abc import Callable, Mapping

from tests.e2e.agents.client import Client, Login, made_up
from tests.e2e.agents.codex import Codex
from tests.e2e.agents.gemini import Gemini

_LIFE_S = 6 * 3600
_CODEX_CONFIG = """# as I like it
model = "gpt-5"   # the good one
sandbox_mode = "workspace-write"

[sandbox_workspace_write]
network_access = true
"""


def _jwt(**claims: object) -> str:
    """Make up a JWT as OpenAI's login server gives them."""
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*texts, made_up("", 340)))


def chatgpt() -> Login:
    """Log in as ``codex login`` does."""
    ends_s = int(time.time()) + _LIFE_S
    plan = {"https://api.openai.com/auth": {"chatgpt_plan_type": "pro", "chatgpt_account_id": "acc-1"}}
    tokens = {
        "id_token": _jwt(email="me@example.com", exp=ends_s, **plan),
        "access_token": _jwt(sub="user-1", exp=ends_s, iat=ends_s - _LIFE_S, **plan),
        "refresh_token": made_up("rt_", 90),
        "account_id": "acc-1",
    }
    last = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    auth = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": last}
    files = {".codex/auth.json": json.dumps(auth, indent=2), ".codex/config.toml": _CODEX_CONFIG}
    secrets = {name: tokens[name] for name in ("id_token", "access_token", "refresh_token")}
    return Login(files, secrets, {"authorization": f"Bearer {tokens['access_token']}"})


def google(left_s: int = _LIFE_S) -> Login:
    """Log in as ``/auth`` in Gemini does; ``left_s``: seconds for which the access token is valid still."""
    tokens: dict[str, object] = {
        "access_token": made_up("ya29.a0", 200),
        "scope": "https://www.googleapis.com/auth/cloud-platform openid",
        "token_type": "Bearer",
        "refresh_token": made_up("1//03", 90),
        "expiry_date": int((time.time() + left_s) * 1000),
    }
    settings = {"security": {"auth": {"selectedType": "oauth-personal"}}}
    files = {".gemini/oauth_creds.json": json.dumps(tokens), ".gemini/settings.json": json.dumps(settings)}
    secrets = {name: str(tokens[name]) for name in ("access_token", "refresh_token")}
    return Login(files, secrets, {"authorization": f"Bearer {tokens['access_token']}"})


class CodexByLogin(Codex):
    """See Client."""

    ways: Mapping[str, Callable[[], Login]] = {**Codex.ways, "ChatGPT login": chatgpt}


class GeminiByLogin(Gemini):
    """See Client."""

    ways: Mapping[str, Callable[[], Login]] = {**Gemini.ways, "Google login": google}

    def replay(self, phantom: str) -> tuple[str, str, str]:
        """See Client."""
        return "/v1internal:generateContent", "Authorization", f"Bearer {phantom}"


CLIENTS: Mapping[str, Client] = {"codex": CodexByLogin(), "gemini": GeminiByLogin()}
