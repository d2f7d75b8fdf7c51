"""Decoys look like what they replace and are never it."""

import base64
import json
import re

import pytest

from agent_broker.honeytoken.likeness import decoy_like, fresh_token, login_token_like


@pytest.mark.parametrize(
    "value",
    [
        "sk-ant-oat01-" + "Ab3-_" * 18 + "AA",
        "sk-ant-ort01-" + "x" * 95,
        "opaque.token/with+signs==",
        "0123456789",
        "UPPER",
    ],
)
def test_a_decoy_has_the_same_shape(value):
    decoy = decoy_like(value)
    assert decoy != value
    assert len(decoy) == len(value)
    prefix = re.match(r"sk-ant-[a-z]+\d\d-", value)
    assert decoy.startswith(prefix[0] if prefix else "")
    assert value.endswith("AA") == decoy.endswith("AA")
    for kind in (str.islower, str.isupper, str.isdigit):
        if not any(map(kind, value)):
            assert not any(map(kind, decoy))


def test_decoys_are_unique():
    value = "sk-ant-oat01-" + "aB3" * 31
    assert len({decoy_like(value) for _ in range(50)}) == 50
    assert fresh_token("sk-ant-oat01-") != fresh_token("sk-ant-oat01-")


def test_a_fresh_token_has_the_usual_length():
    token = fresh_token("sk-ant-ort01-")
    assert len(token) == 108
    assert re.fullmatch(r"sk-ant-ort01-[A-Za-z0-9_-]+AA", token)


def test_nothing_has_no_decoy():
    assert decoy_like("") == ""


def claims_of(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def test_a_jwt_s_decoy_says_the_same_never_ends_and_is_signed_by_nobody():
    parts = [{"alg": "RS256"}, {"sub": "me", "exp": 1795000000, "n": {"a": 1}}]
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    token = ".".join((*texts, "s" * 342))
    decoys = {login_token_like(token) for _ in range(20)}
    assert len(decoys) == 20
    for decoy in decoys:
        header, _, signature = decoy.split(".")
        assert header == texts[0]
        assert claims_of(decoy) == {**parts[1], "exp": 4102444800}
        assert len(signature) == 342
        assert signature != "s" * 342


@pytest.mark.parametrize("value", ["rt_" + "aB3" * 30, "opaque-token-0123456789", "a.b.c", "no.jwt at.all", "x.W10.z"])
def test_what_is_no_jwt_has_a_decoy_like_any_other(value):
    decoy = login_token_like(value)
    assert decoy != value
    assert len(decoy) == len(value)
    assert decoy.startswith("rt_") == value.startswith("rt_")
