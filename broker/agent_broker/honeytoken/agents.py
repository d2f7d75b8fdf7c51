"""Honeytokens with the form of what AI agents and their providers keep."""

from agent_broker.honeytoken.entry import Honeytoken, JsonMember, JsonValue, Lines, WholeFile
from agent_broker.honeytoken.json_text import json_text
from agent_broker.honeytoken.keys import rsa_private_key
from agent_broker.honeytoken.likeness import FAR_FUTURE_MS, fresh_token
from agent_broker.honeytoken.tokens import (
    anthropic_api_key,
    google_access_token,
    google_client,
    google_refresh_token,
    openai_api_key,
    place_name,
    random_text,
)

_DIGITS = "0123456789"
_HEX = "0123456789abcdef"
_CLOUD = "https://www.googleapis.com/auth/cloud-platform"


def claude_oauth() -> Honeytoken:
    """Return a login of Claude's that never expires, so that nobody tries to refresh it."""
    access, refresh = fresh_token("sk-ant-oat01-"), fresh_token("sk-ant-ort01-")
    value: JsonValue = {
        "accessToken": access,
        "refreshToken": refresh,
        "expiresAt": FAR_FUTURE_MS,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "pro",
    }
    return Honeytoken("claude-oauth", "claudeAiOauth", JsonMember(("claudeAiOauth",), value), (access, refresh))


def claude_api_key() -> Honeytoken:
    """Return an API key of Anthropic's in a file of variables."""
    return _variable("claude-api-key", "ANTHROPIC_API_KEY", anthropic_api_key())


def openai() -> Honeytoken:
    """Return an API key of OpenAI's in a file of variables."""
    return _variable("openai-api-key", "OPENAI_API_KEY", openai_api_key())


def gemini_oauth() -> Honeytoken:
    """Return a Google login as Gemini CLI keeps it."""
    access, refresh = google_access_token(), google_refresh_token()
    value: JsonValue = {
        "access_token": access,
        "refresh_token": refresh,
        "scope": f"{_CLOUD} openid",
        "token_type": "Bearer",
        "expiry_date": FAR_FUTURE_MS,
    }
    return Honeytoken("gemini-oauth", "oauth_creds", WholeFile(json_text(value)), (access, refresh))


def google_oauth() -> Honeytoken:
    """Return a user's Google login as gcloud keeps it for other programs (``authorized_user``)."""
    client, secret = google_client()
    refresh = google_refresh_token()
    name = f"{place_name()}@gmail.com"
    value = {
        "account": name,
        "client_id": client,
        "client_secret": secret,
        "refresh_token": refresh,
        "type": "authorized_user",
        "universe_domain": "googleapis.com",
    }
    return Honeytoken("google-oauth", name, WholeFile(json_text(value)), (refresh, secret))


def gcp_service_account() -> Honeytoken:
    """Return a service account's key file, with a real RSA key that nobody trusts."""
    key, key_id = rsa_private_key(), random_text(_HEX, 40)
    project = f"{place_name()}-prod"
    name = f"deployer@{project}.iam.gserviceaccount.com"
    value = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": key_id,
        "private_key": key,
        "client_email": name,
        "client_id": f"1{random_text(_DIGITS, 20)}",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{name.replace('@', '%40')}",
        "universe_domain": "googleapis.com",
    }
    return Honeytoken("gcp-service-account", name, WholeFile(json_text(value)), (key_id, key))


def _variable(kind: str, name: str, value: str) -> Honeytoken:
    """Lines at the start: where a file sets the same name again, the file's own wins."""
    return Honeytoken(kind, name, Lines(f"{name}={value}\n", "start", (f"{name}=",)), (value,))
