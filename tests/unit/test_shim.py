"""The real binary against a broker that the test plays."""

import os
import pty
import socket
import struct
import subprocess

import pytest

from agent_broker.transport.frame import (
    MAX_FRAME_BYTES,
    FrameType,
    ShimAnswer,
    ShimRequest,
    decode_nonce,
    decode_request,
    encode_answer,
    encode_nonce,
    encode_versions,
)
from tests.fakes import shim
from tests.fakes.seqpacket import ScriptedBroker

TABLE = """
static const char *const TEST_VARIABLES[] = {"TEST_ONE", "TEST_TWO", "TEST_UNSET", NULL};
static const struct protocol PROTOCOLS[] = {
    {.name = "test-store", .reads_stdin = 1, .environment = TEST_VARIABLES},
};
"""


@pytest.fixture
def broker(tmp_path):
    with ScriptedBroker(tmp_path) as scripted:
        yield scripted


@pytest.fixture(scope="session")
def storing_shim(tmp_path_factory):
    table = tmp_path_factory.mktemp("table") / "test_protocols.h"
    table.write_text(TABLE)
    return shim.compiled(f'PROTOCOL_TABLE="{table}"')


def exchange(broker, process, answer: bytes | ShimAnswer) -> tuple[ShimRequest, tuple[int, bytes, bytes]]:
    with broker.accept() as connection:
        request = decode_request(connection.recv(MAX_FRAME_BYTES + 1))
        connection.send(encode_answer(answer) if isinstance(answer, ShimAnswer) else answer)
    return request, shim.finish(process)


def test_it_is_one_small_static_file():
    binary = shim.compiled()
    assert binary.stat().st_size < 32_000
    headers = subprocess.run(["readelf", "-lW", binary], check=True, capture_output=True, text=True).stdout
    assert "INTERP" not in headers
    assert "RWE" not in headers


def test_its_name_is_the_protocol(broker, tmp_path):
    process = shim.start("an argument", root=tmp_path, name="/some/where/claude-api-key-helper")
    request, result = exchange(broker, process, ShimAnswer(0, b"phantom\n"))
    assert request == ShimRequest("claude-api-key-helper", ("an argument",))
    assert result == (0, b"phantom\n", b"")


def test_or_its_first_argument_is(broker, tmp_path):
    process = shim.start("get", "api-key", "", root=tmp_path, name="bin/agent-broker-shim")
    request, result = exchange(broker, process, ShimAnswer(3, b"", b"agent-broker: refused\n  ask root\n"))
    assert request == ShimRequest("get", ("api-key", ""))
    assert result == (3, b"", b"agent-broker: refused\n  ask root\n")


def test_a_symbolic_link_works(broker, tmp_path):
    link = tmp_path / shim.PHANTOM_HELPER
    link.symlink_to(shim.compiled())
    process = subprocess.Popen([link], env={"AGENT_BROKER_ROOT": f"{tmp_path}//"}, stdout=subprocess.PIPE)
    request, result = exchange(broker, process, ShimAnswer(0, b"phantom"))
    assert request.protocol == shim.PHANTOM_HELPER
    assert result[:2] == (0, b"phantom")


def test_both_streams_and_every_code_come_through(broker, tmp_path):
    process = shim.start("get", root=tmp_path)
    out = bytes(range(256)) * 100
    assert exchange(broker, process, ShimAnswer(255, out, b"and\0this"))[1] == (255, out, b"and\0this")


def test_the_longest_answer_comes_through(broker, tmp_path):
    out = b"x" * (MAX_FRAME_BYTES - 12 - 5 - 4)
    assert exchange(broker, shim.start("get", root=tmp_path), ShimAnswer(0, out))[1] == (0, out, b"")


def test_it_sends_nothing_of_its_caller_that_is_not_listed(broker, tmp_path):
    """Its stdin stays open and unread: a shim that read it would never ask."""
    process = shim.start("get", root=tmp_path, stdin=subprocess.PIPE, env={"HOME": "/x", "TEST_ONE": "1"})
    with broker.accept() as connection:
        request = decode_request(connection.recv(MAX_FRAME_BYTES + 1))
        connection.send(encode_answer(ShimAnswer(0)))
        assert process.wait() == 0
    shim.finish(process)
    assert request == ShimRequest("get")


def test_a_terminal_does_not_hang_it(broker, tmp_path):
    ours, theirs = pty.openpty()
    try:
        process = shim.start(name=shim.PHANTOM_HELPER, root=tmp_path, stdin=theirs)
        assert exchange(broker, process, ShimAnswer(0, b"phantom"))[1] == (0, b"phantom", b"")
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_protocol_with_stdin_and_variables_sends_them(broker, tmp_path, storing_shim):
    env = {"TEST_ONE": "1=one", "TEST_TWO": "", "TEST_ONEX": "no", "OTHER": "no"}
    process = shim.start("test-store", "a", root=tmp_path, binary=storing_shim, env=env, stdin=subprocess.PIPE)
    process.stdin.write(b"first ")
    process.stdin.flush()
    process.stdin.write(b"second")
    process.stdin.close()
    process.stdin = None
    request, result = exchange(broker, process, ShimAnswer(0))
    assert request == ShimRequest("test-store", ("a",), b"first second", (("TEST_ONE", "1=one"), ("TEST_TWO", "")))
    assert result == (0, b"", b"")


def test_empty_stdin_is_none(broker, tmp_path, storing_shim):
    process = shim.start("test-store", root=tmp_path, binary=storing_shim)
    assert exchange(broker, process, ShimAnswer(0))[0] == ShimRequest("test-store")


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES - 12 - 14 - 4 + 1, 200_000])
def test_stdin_that_does_not_fit_is_misuse(tmp_path, storing_shim, size):
    process = shim.start("test-store", root=tmp_path, binary=storing_shim, stdin=subprocess.PIPE)
    code, out, err = shim.finish(process, b"x" * size)
    assert (code, out) == (2, b"")
    assert b"longer than 65536 bytes" in err


def test_the_longest_stdin_fits(broker, tmp_path, storing_shim):
    size = MAX_FRAME_BYTES - 12 - 14 - 4
    process = shim.start("test-store", root=tmp_path, binary=storing_shim, stdin=subprocess.PIPE)
    process.stdin.write(b"x" * size)
    process.stdin.close()
    process.stdin = None
    assert exchange(broker, process, ShimAnswer(0))[0].stdin == b"x" * size


def test_stdin_that_can_not_be_read(tmp_path, storing_shim):
    with (tmp_path / "write-only").open("wb") as file:
        code, _, err = shim.finish(shim.start("test-store", root=tmp_path, binary=storing_shim, stdin=file))
    assert code == 1
    assert b"stdin can't be read" in err


def test_arguments_that_do_not_fit_are_misuse(tmp_path):
    code, _, err = shim.finish(shim.start("get", "x" * 70_000, root=tmp_path))
    assert code == 2
    assert b"longer than 65536 bytes" in err


def one_line(err: bytes) -> bytes:
    assert err.startswith(b"agent-broker: ")
    assert err.endswith(b"\n")
    assert err.count(b"\n") == 1
    return err


def test_no_protocol_is_misuse(tmp_path):
    code, out, err = shim.finish(shim.start(root=tmp_path))
    assert (code, out) == (2, b"")
    assert b"usage" in one_line(err)


def test_no_broker(tmp_path):
    code, out, err = shim.finish(shim.start("get", root=tmp_path))
    assert (code, out) == (4, b"")
    assert b"no socket at %s/run/agent-broker/agent.sock" % bytes(tmp_path) in one_line(err)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [("git", b"quit=1\n"), ("docker-credential-agent-broker", b"agent-broker gave no login; its reason: ")],
)
def test_where_silence_sends_a_client_on_it_is_not_silent(broker, tmp_path, protocol, words):
    """Without a broker, and when the broker says no; what the broker says itself is not added to."""
    assert shim.finish(shim.start(protocol, "get", root=tmp_path / "nowhere"))[:2][1].startswith(words)
    refused = ShimAnswer(3, stderr=b"no\n")
    _, (code, out, err) = exchange(broker, shim.start(protocol, "get", root=tmp_path), refused)
    assert (code, err) == (3, b"no\n")
    assert out.startswith(words)
    _, (code, out, _) = exchange(broker, shim.start(protocol, "get", root=tmp_path), ShimAnswer(1, b"not found"))
    assert (code, out) == (1, b"not found")
    assert exchange(broker, shim.start(protocol, "get", root=tmp_path), ShimAnswer(0))[1] == (0, b"", b"")


def test_a_dead_broker(broker, tmp_path):
    broker.close()
    code, _, err = shim.finish(shim.start("get", root=tmp_path))
    assert code == 4
    assert b"nobody listens" in one_line(err)


def test_a_socket_of_another_kind(tmp_path):
    path = tmp_path / "run/agent-broker/agent.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(path))
        stream.listen()
        code, _, err = shim.finish(shim.start("get", root=tmp_path))
    assert code == 4
    assert b"can't be reached" in one_line(err)


def test_a_broker_that_does_not_answer(broker, tmp_path):
    process = shim.start("get", root=tmp_path)
    with broker.accept():
        code, _, err = shim.finish(process)
    assert code == 4
    assert b"did not answer within 2 s" in one_line(err)


def test_a_broker_that_does_not_even_accept(broker, tmp_path):
    """The queue is full (a backlog of one holds two), so there is no place to connect to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one, socket.socket(one.family, one.type) as two:
        one.connect(str(broker.path))
        two.connect(str(broker.path))
        code, _, err = shim.finish(shim.start("get", root=tmp_path))
    assert code == 4
    assert b"too busy" in one_line(err)


def test_a_place_that_becomes_free_is_taken(broker, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one, socket.socket(one.family, one.type) as two:
        one.connect(str(broker.path))
        two.connect(str(broker.path))
        process = shim.start("get", root=tmp_path)
        broker.accept().close()
        broker.accept().close()
        assert exchange(broker, process, ShimAnswer(0, b"late"))[1] == (0, b"late", b"")


@pytest.mark.parametrize("reads", [True, False], ids=["after reading", "before reading"])
def test_a_broker_that_hangs_up(broker, tmp_path, reads):
    process = shim.start("get", root=tmp_path)
    with broker.accept() as connection:
        if reads:
            connection.recv(100)
    code, _, err = shim.finish(process)
    assert code == 4
    assert b"hung up" in one_line(err)


def test_an_answer_ahead_of_a_hang_up_is_heard(broker, tmp_path):
    """As a broker does that has no place: it answers, and never reads the request."""
    process = shim.start("get", root=tmp_path)
    with broker.accept() as connection:
        connection.send(encode_answer(ShimAnswer(4, b"", b"agent-broker: too many\n")))
    assert shim.finish(process) == (4, b"", b"agent-broker: too many\n")


def test_a_broker_of_another_version(broker, tmp_path):
    newer = encode_versions()[:4] + struct.pack("<H", 9) + encode_versions()[6:]
    for frame in (encode_versions(), newer):
        _, (code, out, err) = exchange(broker, shim.start("get", root=tmp_path), frame)
        assert (code, out) == (4, b"")
        assert b"different versions" in one_line(err)


ANSWER = bytes(encode_answer(ShimAnswer(0, b"CANARY", b"CANARY")))


@pytest.mark.parametrize(
    "frame",
    [
        b"x",
        b"CANARY" * 100,
        ANSWER[:-1],
        ANSWER + b"\0",
        ANSWER[:4] + b"\x02" + ANSWER[5:],
        ANSWER[:6] + b"\x01" + ANSWER[7:],
        ANSWER[:12] + b"\x63" + ANSWER[13:],
        ANSWER[:14] + b"\x02" + ANSWER[15:],
        ANSWER[:17] + ANSWER[12:17] + ANSWER[17:],
        ANSWER[:8] + b"\0\0\0\0" + ANSWER[12:],
        ANSWER[:12],
        ANSWER[:19] + b"\xff\xff" + ANSWER[21:],
        b"x" * (MAX_FRAME_BYTES + 1),
        b"x" * (MAX_FRAME_BYTES + 2),
    ],
)
def test_an_answer_that_is_none_is_not_printed(broker, tmp_path, frame):
    _, (code, out, err) = exchange(broker, shim.start("get", root=tmp_path), frame)
    assert (code, out) == (4, b"")
    assert b"can't be read" in one_line(err)
    assert b"CANARY" not in err


def test_it_confirms_who_it_is_once(broker, tmp_path):
    process = shim.start("get", root=tmp_path)
    with broker.accept() as connection:
        decode_request(connection.recv(MAX_FRAME_BYTES))
        connection.send(encode_nonce(FrameType.CHALLENGE, b"0123456789abcdef"))
        assert decode_nonce(connection.recv(MAX_FRAME_BYTES), FrameType.CONFIRM) == b"0123456789abcdef"
        connection.send(encode_nonce(FrameType.CHALLENGE, b"0123456789abcdef"))
    code, _, err = shim.finish(process)
    assert code == 4
    assert b"can't be read" in one_line(err)


def test_nothing_is_sent_to_a_server_that_is_not_roots(broker, tmp_path):
    stricter = shim.compiled(server_uid=os.geteuid() + 1)
    process = shim.start("get", "api-key", root=tmp_path, binary=stricter)
    with broker.accept() as connection:
        assert connection.recv(MAX_FRAME_BYTES) == b""
    code, out, err = shim.finish(process)
    assert (code, out) == (4, b"")
    assert b"nothing was sent, since root does not serve" in one_line(err)


@pytest.mark.parametrize(("root", "text"), [("relative", b"absolute"), ("/" + "x" * 90, b"too long")])
def test_a_root_that_can_not_be(root, text):
    code, _, err = shim.finish(shim.start("get", root=root))
    assert code == 2
    assert text in one_line(err)


def test_the_longest_root_that_fits_is_tried():
    root = "/" + "x" * (107 - len("/run/agent-broker/agent.sock") - 1)
    code, _, err = shim.finish(shim.start("get", root=root))
    assert code == 4
    assert root.encode() in one_line(err)


@pytest.mark.parametrize("root", ["", "/", "//"])
def test_no_root_is_the_machines_own(root):
    """The machine may have a broker or not: this shim takes no answer from one."""
    nobody_serves = shim.compiled(server_uid=2**32 - 2)
    code, _, err = shim.finish(shim.start("get", root=root, binary=nobody_serves))
    assert code == 4
    assert b" /run/agent-broker/agent.sock;" in one_line(err)


def test_a_reader_that_is_gone_is_an_error_and_not_a_death(broker, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    process = shim.start("get", root=tmp_path, stdout=writing)
    os.close(writing)
    _, (code, _, err) = exchange(broker, process, ShimAnswer(0, b"CANARY"))
    assert code == 1
    assert b"could not be written" in one_line(err)
    assert b"CANARY" not in err


def test_a_full_pipe_that_does_not_block_is_waited_for(broker, tmp_path):
    out = b"x" * (MAX_FRAME_BYTES - 21)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = 0
    while True:
        try:
            filled += os.write(writing, b"y" * 4096)
        except BlockingIOError:
            break
    process = shim.start("get", root=tmp_path, stdout=writing)
    os.close(writing)
    with broker.accept() as connection:
        connection.recv(MAX_FRAME_BYTES)
        connection.send(encode_answer(ShimAnswer(0, out)))
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b"y" * filled + out
    assert shim.finish(process)[0] == 0


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-"])
def test_a_closed_stream_does_not_become_the_socket(broker, closed):
    env = {"AGENT_BROKER_ROOT": str(broker.path.parents[2])}
    command = ["sh", "-c", f'exec "$0" get {closed}', shim.compiled()]
    code = subprocess.run(command, check=False, env=env, capture_output=True)
    assert code.returncode == 2


@pytest.mark.parametrize("compiler", ["cc", "clang"])
def test_every_compiler_accepts_it(tmp_path, compiler):
    command = [compiler, f"@{shim.SOURCE / 'cc.flags'}", "-o", tmp_path / "shim", shim.SOURCE / "client.c"]
    subprocess.run(command, check=True)
