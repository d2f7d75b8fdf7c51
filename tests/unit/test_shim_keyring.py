"""keyring's protocols, as pure functions."""

import json

import pytest

from agent_broker_shims import keyring
from agent_broker_shims.keyring import Asked
from agent_broker_shims.port import Answer, NotThisProtocolError


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["get", "https://i/simple", "alice"], Asked("get", "https://i/simple", "alice", "", False, False)),
        (["get", "https://i/simple", "--mode", "creds"], Asked("get", "https://i/simple", None, "", True, False)),
        (["--mode=creds", "--output=json", "get", "i"], Asked("get", "i", None, "", True, True)),
        (["--mode=creds", "--output=json", "get", "i", "alice"], Asked("get", "i", "alice", "", True, True)),
    ],
)
def test_pip_and_uv_are_understood(arguments, asked):
    assert keyring.command_line(arguments) == asked


@pytest.mark.parametrize("operation", ["set", "del"])
def test_the_command_changes_nothing(operation):
    answer = keyring.command_line([operation, "service", "alice"])

    assert isinstance(answer, Answer)
    assert answer.exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["get"], ["get", "service"], ["get", "a", "b", "c"], ["--keyring-path=/x", "get", "a", "b"],
        ["get", "", "alice"], ["get", "a" * 2000, "alice"], ["--list-backends"], ["get", "a", "\ud800"],
    ],
)  # fmt: skip
def test_what_is_not_keyrings_is_none(arguments):
    with pytest.raises(NotThisProtocolError):
        keyring.command_line(arguments)


def said(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_the_backend_is_understood():
    assert keyring.backend(said(operation="get", service="s", username=None)) == Asked("get", "s", None)
    assert keyring.backend(said(operation="get", service="s", username="")) == Asked("get", "s", "")
    assert keyring.backend(said(operation="delete", service="s", username="u")) == Asked("delete", "s", "u")
    assert keyring.backend(said(operation="set", service="s", username="u", password="")) == Asked("set", "s", "u", "")


@pytest.mark.parametrize(
    "stdin",
    [
        b"", b"[]", b"nothing", b"[" * 100_000, b"\xff", said(operation="get", username="u"),
        said(operation="list", service="s", username="u"), said(operation="set", service="s", username="u"),
        said(operation="set", service="s", username=None, password="p"), said(operation="delete", service="s"),
        said(operation="get", service="s", username="u", password="p"), said(operation="get", service="", username="u"),
        said(operation="get", service=["s"], username="u"), said(operation="get", service="\ud800", username="u"),
    ],
)  # fmt: skip
def test_what_is_not_the_backends_is_none(stdin):
    with pytest.raises(NotThisProtocolError):
        keyring.backend(stdin)


def test_a_request_does_not_show_its_password():
    assert "hidden" not in repr(Asked("set", "s", "u", "hidden"))


def test_each_output_is_what_its_client_reads():
    plain = Asked("get", "s", "u", "", False, False)

    assert keyring.answer(plain, "u", b"p") == b"p\n"
    assert keyring.answer(plain._replace(with_username=True), "u", b"p") == b"u\np\n"
    assert json.loads(keyring.answer(Asked("get", "s"), "u", b'p"\n')) == {"username": "u", "password": 'p"\n'}


def test_a_line_break_in_a_password_is_no_second_line():
    with pytest.raises(NotThisProtocolError):
        keyring.answer(Asked("get", "s", "u", "", False, False), "u", b"p\nq")
