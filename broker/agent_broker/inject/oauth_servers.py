"""The login servers: one row of data for each kind of OAuth login that an agent can have.

Every value is the one that the vendor's released CLI uses, read in its npm package and, where it says so, seen on the
wire. Client ids and secrets are public: each copy of the CLI holds them (RFC 8252, section 8.5), and the tokens in the
vault were given to them.

* Claude Code: @anthropic-ai/claude-code 2.1.330, ``TOKEN_URL`` and ``CLIENT_ID`` of its configuration ``prod``; its
  refresh posts JSON. The scope that it adds is left out: without one the login keeps those it has (RFC 6749, 6).
* Codex CLI: @openai/codex 0.169.0, seen on the wire with CODEX_REFRESH_TOKEN_URL_OVERRIDE: JSON; the answer has no
  lifetime, the access token is a JWT whose ``exp`` says it, or is opaque.
* Gemini CLI: @google/gemini-cli 0.61.0, ``OAUTH_CLIENT_ID`` and ``OAUTH_CLIENT_SECRET`` of its bundle; the refresh is
  that of google-auth-library, form-encoded. The refresh token stays the same.

What the vault holds is what the CLI's own file holds: Claude's object ``claudeAiOauth``, Codex's object ``tokens``,
Gemini's ``oauth_creds.json``.
"""

from typing import Final, Literal

from msgspec import Struct

Encoding = Literal["json", "form"]
"""How a refresh is posted: ``application/json`` or ``application/x-www-form-urlencoded``."""


class Fields(Struct, frozen=True):
    """What the stored JSON calls its tokens."""

    access: str = "access_token"
    refresh: str = "refresh_token"
    identity: str = ""
    """An OpenID id token, which a refresh renews too; empty: there is none."""
    expires_ms: str = ""
    """When the access token ends, Unix time in milliseconds; empty: the access token itself says it, if it can."""


class LoginServer(Struct, frozen=True):
    """One login server and the client that an agent is to it."""

    kind: str
    """Of the credentials in the vault."""
    token_url: str
    client_id: str
    encoding: Encoding
    fields: Fields
    client_secret: str = ""

    def request(self, refresh_token: str) -> dict[str, str]:
        """Return the parameters of a refresh (RFC 6749 section 6)."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self.client_id}
        return {**form, "client_secret": self.client_secret} if self.client_secret else form


ANTHROPIC: Final = LoginServer(
    kind="anthropic-oauth",
    token_url="https://platform.claude.com/v1/oauth/token",  # noqa: S106 - an address
    client_id="9d1c250a-e61b-44d9-88ed-5944d1962f5e",
    encoding="json",
    fields=Fields(access="accessToken", refresh="refreshToken", expires_ms="expiresAt"),
)
OPENAI: Final = LoginServer(
    kind="openai-oauth",
    token_url="https://auth.openai.com/oauth/token",  # noqa: S106 - an address
    client_id="app_EMoamEEZ73f0CkXaXp7hrann",
    encoding="json",
    fields=Fields(identity="id_token"),
)
GOOGLE: Final = LoginServer(
    kind="google-oauth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    client_id="681255809395-oo8ft2oprdrnp9e3aqf6av3hmdib135j.apps.googleusercontent.com",
    client_secret="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",  # noqa: S106 - public, see above
    encoding="form",
    fields=Fields(identity="id_token", expires_ms="expiry_date"),
)

LOGIN_SERVERS: Final = {each.kind: each for each in (ANTHROPIC, OPENAI, GOOGLE)}
"""By the kind of credential."""


def is_oauth(kind: str) -> bool:
    """Whether credentials of this kind are logins that the broker refreshes."""
    return kind in LOGIN_SERVERS
