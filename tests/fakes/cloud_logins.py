"""Credentials of the two clouds that open nothing anywhere, and what the providers must know to verify them."""

import secrets
from functools import cache

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.fakes.mock_provider import Mode

ADC = ".config/gcloud/application_default_credentials.json"
"""Where gcloud puts application default credentials, below the home."""
PROJECT = "agent-project-417"
EMAIL = f"claude@{PROJECT}.iam.gserviceaccount.com"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def aws_keys(*, session: bool = False) -> dict[str, str]:
    """Return a key pair as ``~/.aws/credentials`` names it."""
    key_id = ("ASIA" if session else "AKIA") + "".join(secrets.choice(_ALPHABET) for _ in range(16))
    keys = {"aws_access_key_id": key_id, "aws_secret_access_key": secrets.token_urlsafe(30).replace("_", "/")}
    return {**keys, "aws_session_token": "IQoJ" + secrets.token_urlsafe(200)} if session else keys


@cache
def _key_pair() -> tuple[str, str]:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private.decode(), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def service_account() -> dict[str, str]:
    """Return a service account's key as Google's console writes it."""
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": secrets.token_hex(20),
        "private_key": _key_pair()[0],
        "client_email": EMAIL,
        "client_id": "104857600000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    }


def user_login() -> dict[str, str]:
    """Return what ``gcloud auth application-default login`` writes."""
    return {
        "account": "",
        "client_id": "764086051850-6qr4p6gpi6hn506pt8ejuq83di341hur.apps.googleusercontent.com",
        "client_secret": "d-FL95Q19q7MQmFpd7hHD0Ty",
        "refresh_token": "1//0" + secrets.token_urlsafe(70),
        "type": "authorized_user",
        "universe_domain": "googleapis.com",
    }


def google_mode(*logins: dict[str, str]) -> dict[str, object]:
    """Return what the provider has to know of Google's credentials; see Mode."""
    users = {
        each["refresh_token"]: [each["client_id"], each["client_secret"]] for each in logins if "client_secret" in each
    }
    return {"google_accounts": {EMAIL: _key_pair()[1]}, "google_logins": users}


def aws_mode(*pairs: dict[str, str]) -> dict[str, object]:
    """Return what the provider has to know of key pairs; see Mode."""
    known = {
        each["aws_access_key_id"]: [each["aws_secret_access_key"], each.get("aws_session_token", "")] for each in pairs
    }
    return {"aws_keys": known}


AWS_KEYS = aws_keys()
SESSION_KEYS = aws_keys(session=True)
SERVICE_ACCOUNT = service_account()
LOGIN = user_login()


def cloud_mode() -> Mode:
    """Return the mode of a provider that knows all of the above."""
    return Mode(**aws_mode(AWS_KEYS, SESSION_KEYS), **google_mode(LOGIN))
