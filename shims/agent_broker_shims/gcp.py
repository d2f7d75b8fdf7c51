"""Google's metadata server and token exchange, as Google's libraries ask for access tokens: paths in, answers out.

Read from google-auth 2.62 (compute_engine/_metadata.py, identity_pool.py, sts.py). Both are HTTP, so no shim of ours is
started: the broker's endpoint answers. The metadata server tells ``email``, ``scopes`` and ``token`` of one account,
``default``, or of the project; an identity token is not among it. The exchange takes any subject token (RFC 8693).
"""

import json
from collections.abc import Mapping
from typing import Final

TOOL = "gcp"
SUBJECT_PATH: Final = "/google/subject"
TOKEN_PATH: Final = "/google/token"  # noqa: S105 - a path
SUBJECT: Final = b"the-connection-is-what-counts"
"""A subject token, which must not be empty."""
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
FLAVOR: Final = ("Metadata-Flavor", "Google")
"""The header that each request of a metadata server, and each answer, must have."""
_METADATA: Final = "/computeMetadata/"
_ACCOUNTS: Final = "/computeMetadata/v1/instance/service-accounts/"
_PROJECT: Final = "/computeMetadata/v1/project/project-id"
_UNIVERSE: Final = ("/computeMetadata/v1/universe/universe-domain", "/computeMetadata/v1/universe/universe_domain")

NO_LOGIN: Final = "no login"
LOGIN: Final = "login"
TOKEN: Final = "token"  # noqa: S105 - a word


def is_meant(path: str, headers: Mapping[str, str]) -> bool:
    """Say whether a request is one of these."""
    if path in {SUBJECT_PATH, TOKEN_PATH} or path.startswith(_METADATA):
        return True
    return path == "/" and headers.get(FLAVOR[0]) == FLAVOR[1]


def needs(path: str) -> str:
    """Return what answering a path takes: NO_LOGIN, LOGIN (what is known of it), TOKEN; empty: nothing is there."""
    if path in {"/", SUBJECT_PATH, *_UNIVERSE}:
        return NO_LOGIN
    account, _, wanted = path.removeprefix(_ACCOUNTS).partition("/")
    of_account = path.startswith(_ACCOUNTS)
    if path == TOKEN_PATH or (of_account and account and wanted == "token"):
        return TOKEN
    return LOGIN if path == _PROJECT or (of_account and wanted in {"", "email", "scopes"}) else ""


def plain_answer(path: str) -> bytes:
    """Return the answer of a path that needs no login."""
    if path == SUBJECT_PATH:
        return SUBJECT
    return b"googleapis.com" if path in _UNIVERSE else b"computeMetadata/\n"


def login_answer(path: str, query: str, email: str, project: str) -> bytes | None:
    """Return what a path says of a login; None: that is not known."""
    if path == _PROJECT:
        return project.encode() or None
    account, _, wanted = path.removeprefix(_ACCOUNTS).partition("/")
    if not account:
        return b"default/\n"
    email = email or "default"
    if wanted:
        return {"email": email, "scopes": SCOPE}[wanted].encode()
    if "recursive=true" not in query.lower():
        return b"aliases\nemail\nscopes\ntoken\n"
    return json.dumps({"aliases": ["default"], "email": email, "scopes": [SCOPE]}).encode()


def token_answer(path: str, token: str, lifetime_s: int) -> bytes:
    """Return an access token as the path's client reads it."""
    answer: dict[str, object] = {"access_token": token, "expires_in": lifetime_s, "token_type": "Bearer"}
    if path == TOKEN_PATH:
        answer["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
    return json.dumps(answer).encode()


def refusal(path: str, sentence: str) -> bytes:
    """Return a no that the path's client shows to a person."""
    if path != TOKEN_PATH:
        return sentence.encode()
    return json.dumps({"error": "access_denied", "error_description": sentence}).encode()
