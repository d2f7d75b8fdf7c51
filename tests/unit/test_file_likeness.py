"""A file's decoy: everything secret is another value of the same shape, everything else is as it was."""

import json
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_broker.errors import MisuseError
from agent_broker.honeytoken.file_likeness import decoy_of_file

TOKEN = "gho_" + "aB3" * 12
NPM = "npm_" + "Zz9" * 12
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJlbWFpbCI6ImFAYiIsImV4cCI6MX0.c2lnbmF0dXJlc2lnbmF0dXJl"


def decoy(text):
    data, values = decoy_of_file(text.encode())
    assert all(value in data.decode() for value in values)
    return data.decode()


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        (f"//registry.npmjs.org/:_authToken={NPM}\nfund=false\n", [NPM]),
        (f"github.com:\n    user: me\n    oauth_token: {TOKEN}\n    git_protocol: https\n", [TOKEN]),
        ("machine a.example login me password hunter2hunter\nmachine b.example\n\tlogin u\n\tpassword pass-word-2\n",
         ["hunter2hunter", "pass-word-2"]),
        (json.dumps({"tokens": {"id_token": JWT, "refresh_token": "rt_" + "q7" * 20}, "last": "2026-01-02T03:04:05Z"}),
         [JWT, "rt_" + "q7" * 20]),
        ('[default]\naws_access_key_id = AKIAABCDEFGHIJ\naws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfi"\n',
         ["wJalrXUtnFEMI/K7MDENG/bPxRfi"]),
        ("https://me:hunter2x@git.example/x\n", ["hunter2x"]),
    ],
)  # fmt: skip
def test_each_secret_becomes_another_value_of_its_shape(text, secrets):
    made = decoy(text)
    assert not any(secret in made for secret in secrets)
    assert len(made.splitlines()) == len(text.splitlines())


def test_it_parses_as_before():
    hosts = yaml.safe_load(decoy(f"github.com:\n    user: me\n    oauth_token: {TOKEN}\n"))
    assert hosts["github.com"]["user"] == "me"
    assert hosts["github.com"]["oauth_token"].startswith("gho_")
    assert tomllib.loads(decoy(f'name = "x"\ntoken = "{TOKEN}"\n'))["name"] == "x"
    assert json.loads(decoy(json.dumps({"a": 1, "api_key": "k" * 8 + "9"})))["a"] == 1


def test_one_value_is_one_decoy_wherever_it_stands():
    first, second = decoy(f"a_token={NPM}\nb_token={NPM}\n").splitlines()
    assert first.partition("=")[2] == second.partition("=")[2] != NPM


@pytest.mark.parametrize("text", ["", "color=auto\n", "registry=https://registry.npmjs.org/\n"])
def test_nothing_to_hide_is_refused(text):
    with pytest.raises(MisuseError, match="looks like a secret"):
        decoy_of_file(text.encode())


@given(st.binary(max_size=400))
def test_any_bytes_are_a_decoy_or_refused(data):
    try:
        made, values = decoy_of_file(data)
    except MisuseError:
        return
    assert values
    assert made != data
