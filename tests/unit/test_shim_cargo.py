"""cargo's protocol, as a pure function."""

import json

import pytest

from agent_broker_shims import cargo
from agent_broker_shims.port import Answer, NotThisProtocolError, Question

INDEX = "sparse+https://index.example.com/i/"


def asked(kind="get", index=INDEX, **more):
    line = {"v": 1, "registry": {"index-url": index, "name": "mine"}, "kind": kind, "operation": "publish", **more}
    return json.dumps(line).encode() + b"\n"


@pytest.mark.parametrize(
    ("index", "destination"),
    [
        (INDEX, "https://index.example.com/i/"),
        ("https://github.com/rust-lang/crates.io-index", "https://github.com/rust-lang/crates.io-index"),
        ("registry+https://git.example.com/index", "https://git.example.com/index"),
    ],
)
def test_a_registry_is_the_address_of_its_index(index, destination):
    assert cargo.question([], asked(index=index), {}) == Question(destination)


def test_the_answer_is_cargos_and_holds_while_cargo_runs():
    said = json.loads(cargo.answer(Question(INDEX), "", b"token"))

    assert said == {"Ok": {"kind": "get", "token": "token", "cache": "session", "operation_independent": True}}


@pytest.mark.parametrize(
    ("kind", "told"), [("login", "other"), ("logout", "other"), ("rotate", "operation-not-supported")]
)
def test_what_is_not_asked_for_is_answered_in_cargos_words(kind, told):
    answer = cargo.question([], asked(kind), {})

    assert isinstance(answer, Answer)
    assert (answer.exit_code, json.loads(answer.stdout)["Err"]["kind"]) == (0, told)


def test_no_token_is_said_in_cargos_words():
    assert json.loads(cargo.not_found(Question(INDEX)).stdout) == {"Err": {"kind": "not-found"}}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["get"], asked()),
        ([], b""),
        ([], b"\xff"),
        ([], b"[]"),
        ([], b"[" * 100_000),
        ([], asked(v=2)),
        ([], asked(registry="mine")),
        ([], asked(registry={})),
        ([], asked(index=7)),
    ],
    ids=["words", "nothing", "bytes", "list", "deep", "version", "registry", "no index", "number"],
)
def test_what_is_not_cargos_is_none(arguments, line):
    with pytest.raises(NotThisProtocolError):
        cargo.question(arguments, line, {})
