"""How each kind of credential is injected, and where its provider is: the whole table, one place. Pure data.

The law of this module: a kind that is not here is not injected. A kind names one upstream, and one header that carries
its credential; nothing that a client sends chooses either.

Paths and headers as the released clients use them: Claude Code 2.1, Codex 0.169, Gemini CLI 0.61.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

AUTH_HEADERS: Final = ("authorization", "x-api-key", "x-goog-api-key")
"""Where a client may put its phantom. All of them are dropped; the credential goes where its kind belongs."""


class Provider(Struct, frozen=True):
    """Where one provider's requests go."""

    base_url: str
    """Without a path: what a client asks for is asked for there."""
    only_below: tuple[str, ...] = ()
    """How the only paths begin that this login is for; empty: all. It opens far more of a provider than its models."""
    gives_secrets: tuple[str, ...] = ()
    """Paths whose answer would hand a fresh secret to the agent; what lies below them as well. Lower case."""
    called_here: Mapping[str, str] = MappingProxyType({})
    """Whole paths of another service for the same models: how they are called here. An agent that is wired for one
    service may have an account of the other (grant.accounts)."""


NO_PROVIDER: Final = "own"
"""Of a kind that says the header alone: where the credential belongs is recorded with it (a recipe's base_url)."""

_CODEX_PATHS: Final = {
    f"/v1/{name}": f"/backend-api/codex/{name}" for name in ("responses", "responses/compact", "models")
}
"""What Codex asks of OpenAI's API, and what it asks of ChatGPT's instead when it is logged in there."""

PROVIDERS: Final = {
    NO_PROVIDER: Provider(""),
    "anthropic": Provider(
        "https://api.anthropic.com",
        gives_secrets=("/api/oauth/claude_cli/create_api_key", "/v1/oauth/token"),
    ),
    "openai": Provider(
        "https://api.openai.com",
        gives_secrets=(
            "/oauth/token",
            "/v1/organization",  # of administrators: makes keys
            "/v1/realtime/client_secrets",
            "/v1/realtime/sessions",
            "/v1/realtime/transcription_sessions",
        ),
        called_here={chatgpt: api for api, chatgpt in _CODEX_PATHS.items()},
    ),
    "chatgpt": Provider("https://chatgpt.com", only_below=("/backend-api/codex/",), called_here=_CODEX_PATHS),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com",
        gives_secrets=("/token", "/v1alpha/auth_tokens", "/v1alpha/authtokens", "/v1beta/auth_tokens"),
    ),
    "code-assist": Provider("https://cloudcode-pa.googleapis.com", only_below=("/v1internal:",)),
    "vertex": Provider(""),
    "bedrock": Provider(""),
}
"""By the name that the kinds use."""

CLOUDS: Final = frozenset({"vertex", "bedrock"})
"""Providers whose host follows from the credential's region (inject.cloud_upstream)."""


class Kind(Struct, frozen=True):
    """How one kind of credential travels."""

    provider: str
    """A key of PROVIDERS."""
    header: str = "Authorization"
    scheme: str = "Bearer "
    """What comes before the credential in its header."""
    betas: tuple[str, ...] = ()
    """What ``anthropic-beta`` has to name besides what the client does."""
    account_header: str = ""
    """Which header carries ACCOUNT_ATTRIBUTE; a client's own is dropped."""
    is_signed: bool = False
    """The credential signs the request (inject.sigv4); it travels in no header."""


KINDS: Final = {
    "anthropic-api-key": Kind("anthropic", "x-api-key", ""),
    "anthropic-auth-token": Kind("anthropic"),
    # An access token is taken from requests only that name this beta.
    "anthropic-oauth": Kind("anthropic", betas=("oauth-2025-04-20",)),
    "openai-api-key": Kind("openai"),
    "openai-oauth": Kind("chatgpt", account_header="ChatGPT-Account-ID"),
    "gemini-api-key": Kind("gemini", "x-goog-api-key", ""),
    "google-oauth": Kind("code-assist"),
    "google-service-account": Kind("vertex", account_header="x-goog-user-project"),
    "google-adc": Kind("vertex", account_header="x-goog-user-project"),
    "vertex-api-key": Kind("vertex", "x-goog-api-key", ""),
    "aws-keys": Kind("bedrock", is_signed=True),
    "bedrock-api-key": Kind("bedrock"),
    "bearer": Kind(NO_PROVIDER),
    "x-api-key": Kind(NO_PROVIDER, "x-api-key", ""),
    "x-goog-api-key": Kind(NO_PROVIDER, "x-goog-api-key", ""),
}

SECRET_GIVING_PATHS: Final = tuple(path for each in PROVIDERS.values() for path in each.gives_secrets)
"""Of all providers: refused before it is known whose request it is."""
