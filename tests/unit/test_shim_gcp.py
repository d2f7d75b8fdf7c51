"""Google's metadata server and token exchange, as pure functions."""

import json

import pytest

from agent_broker_shims import gcp

ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"
FLAVOR = {"Metadata-Flavor": "Google"}


@pytest.mark.parametrize(
    ("path", "needs"),
    [
        ("/", gcp.NO_LOGIN),
        (gcp.SUBJECT_PATH, gcp.NO_LOGIN),
        ("/computeMetadata/v1/universe/universe-domain", gcp.NO_LOGIN),
        ("/computeMetadata/v1/project/project-id", gcp.LOGIN),
        (ACCOUNT, gcp.LOGIN),
        (f"{ACCOUNT}email", gcp.LOGIN),
        ("/computeMetadata/v1/instance/service-accounts/", gcp.LOGIN),
        (f"{ACCOUNT}token", gcp.TOKEN),
        (gcp.TOKEN_PATH, gcp.TOKEN),
        (f"{ACCOUNT}identity", ""),
        (f"{ACCOUNT}token/x", ""),
        ("/computeMetadata/v1/instance/service-accounts//token", ""),
        ("/computeMetadata/v1/instance/attributes/", ""),
        ("/computeMetadata/v1/project/project-id/", ""),
    ],
)
def test_what_a_path_takes(path, needs):
    assert gcp.needs(path) == needs


def test_the_root_is_googles_only_if_the_request_says_so():
    assert gcp.is_meant("/", FLAVOR)
    assert not gcp.is_meant("/", {})
    assert not gcp.is_meant("/v1/messages", FLAVOR)
    assert gcp.is_meant(gcp.TOKEN_PATH, {})


def test_an_account_is_told_as_google_auth_reads_it():
    told = json.loads(gcp.login_answer(ACCOUNT, "recursive=true", "a@b", ""))

    assert told == {"aliases": ["default"], "email": "a@b", "scopes": [gcp.SCOPE]}
    assert gcp.login_answer(f"{ACCOUNT}email", "", "", "") == b"default"
    assert gcp.login_answer("/computeMetadata/v1/project/project-id", "", "a@b", "") is None
    assert gcp.login_answer("/computeMetadata/v1/project/project-id", "", "a@b", "mine") == b"mine"


def test_a_token_says_how_long_it_is_good_for():
    plain = json.loads(gcp.token_answer(f"{ACCOUNT}token", "ya29.x", 300))
    exchanged = json.loads(gcp.token_answer(gcp.TOKEN_PATH, "ya29.x", 300))

    assert plain == {"access_token": "ya29.x", "expires_in": 300, "token_type": "Bearer"}
    assert exchanged.pop("issued_token_type") == "urn:ietf:params:oauth:token-type:access_token"
    assert exchanged == plain


def test_a_no_reads_as_the_client_expects_it():
    assert json.loads(gcp.refusal(gcp.TOKEN_PATH, "no")) == {"error": "access_denied", "error_description": "no"}
    assert gcp.refusal(f"{ACCOUNT}token", "no") == b"no"
