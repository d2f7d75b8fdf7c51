"""The real shim for a client that speaks first of all, and last: cargo."""

import subprocess

import pytest

from agent_broker.transport.frame import MAX_FRAME_BYTES, ShimAnswer, decode_request, encode_answer
from tests.fakes import shim
from tests.fakes.seqpacket import ScriptedBroker


@pytest.fixture
def broker(tmp_path):
    with ScriptedBroker(tmp_path) as scripted:
        yield scripted


def test_a_client_that_wants_a_greeting_and_keeps_its_end_open_is_answered_after_its_line(broker, tmp_path):
    process = shim.start("--cargo-plugin", root=tmp_path, stdin=subprocess.PIPE)
    assert process.stdout.readline() == b'{"v":[1]}\n'
    process.stdin.write(b'{"v":1,')
    process.stdin.flush()
    process.stdin.write(b'"kind":"get"}\nmore that is not read')
    process.stdin.flush()

    with broker.accept() as connection:
        request = decode_request(connection.recv(MAX_FRAME_BYTES + 1))
        connection.send(encode_answer(ShimAnswer(0, stdout=b'{"Ok":{}}\n')))
        assert process.stdout.readline() == b'{"Ok":{}}\n'
    assert (request.protocol, request.argv) == ("--cargo-plugin", ())
    assert request.stdin == b'{"v":1,"kind":"get"}\n'
    assert shim.finish(process)[0] == 0


def test_a_client_with_words_for_a_failure_gets_them_and_no_exit_code(broker, tmp_path):
    """cargo would tell of the exit code alone."""
    refused = ShimAnswer(3, stderr=b"no\n")
    process = shim.start("--cargo-plugin", root=tmp_path)
    with broker.accept() as connection:
        connection.recv(MAX_FRAME_BYTES)
        connection.send(encode_answer(refused))
    code, out, err = shim.finish(process)
    assert (code, err) == (0, b"no\n")
    assert out.startswith(b'{"v":[1]}\n{"Err":{"kind":"other"')
    code, out, err = shim.finish(shim.start("--cargo-plugin", root=tmp_path / "nowhere"))
    assert (code, b'{"Err":' in out, b"no socket at" in err) == (0, True, True)
