"""Decoys look like what they replace and are never it."""

import re

import pytest

from agent_broker.honeytoken.likeness import decoy_like, fresh_token


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
