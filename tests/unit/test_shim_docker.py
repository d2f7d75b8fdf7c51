"""docker's protocol, as a pure function."""

import json

import pytest

from agent_broker_shims import docker
from agent_broker_shims.port import Answer, NotThisProtocolError, Question


@pytest.mark.parametrize(
    ("address", "destination"),
    [
        (b"127.0.0.1:5055", "docker://127.0.0.1:5055"),
        (b"ghcr.io\n", "docker://ghcr.io"),
        (b"https://index.docker.io/v1/", "docker://index.docker.io"),
        (b"https://GHCR.io", "docker://ghcr.io"),
    ],
)
def test_a_server_is_asked_for_however_docker_writes_it(address, destination):
    assert docker.question(["get"], address, {}) == Question(destination)


def test_nothing_is_listed():
    assert docker.question(["list"], b"", {}) == Answer(0, b"{}\n")


@pytest.mark.parametrize("operation", ["store", "erase"])
def test_what_would_change_a_login_is_refused_in_words(operation):
    answer = docker.question([operation], b'{"Secret":"s"}', {})

    assert answer.exit_code == 1
    assert b"sudo agent-broker login docker --host" in answer.stdout
    assert b"sudo agent-broker logout docker --host" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "address"),
    [(["get"], b""), (["get"], b"a\nb"), (["get"], b"\xff"), ([], b"a"), (["get"], b"a" * 2000)],
)
def test_what_is_not_dockers_is_none(arguments, address):
    with pytest.raises(NotThisProtocolError):
        docker.question(arguments, address, {})


def test_the_answer_is_dockers_json():
    told = json.loads(docker.answer(Question("docker://ghcr.io"), "alice", b'p"\n'))

    assert told == {"ServerURL": "ghcr.io", "Username": "alice", "Secret": 'p"\n'}


def test_docker_knows_the_words_for_nothing():
    assert docker.not_found(Question("docker://a")) == Answer(1, b"credentials not found in native keychain\n")
