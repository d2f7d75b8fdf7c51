"""The real launcher against a broker that the test plays: what it executes, with what, and what it refuses to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.identity.command import numbers_of
from agent_broker.transport.frame import MAX_FRAME_BYTES, ShimAnswer, ShimRequest, decode_request, encode_answer
from tests.fakes import shim
from tests.fakes.seqpacket import ScriptedBroker

PYTHON = os.path.realpath(sys.executable)
_TELL = """import json, os, resource, sys
said = {"argv": sys.argv, "environment": dict(os.environ), "core": resource.getrlimit(resource.RLIMIT_CORE)}
print(json.dumps(said))
"""


@pytest.fixture
def broker(tmp_path):
    with ScriptedBroker(tmp_path) as scripted:
        yield scripted


@pytest.fixture(scope="session")
def launcher():
    return shim.compiled(source="launcher.c", name="agent-broker-run")


def numbers(path: str) -> str:
    return numbers_of(Path(path).stat())


def answer(*items: str, path: str = PYTHON, stderr: bytes = b"") -> ShimAnswer:
    every = (f"X{path}", f"N{numbers(path)}", *items)
    return ShimAnswer(0, "".join(f"{each}\0" for each in every).encode(), stderr)


def launched(broker, launcher, said: ShimAnswer, *words: str, **environment: str):
    """Start it as ``one -- COMMAND WORDS``; return what it asked, its exit code, stdout and stderr."""
    root = str(broker.path.parents[2])
    process = subprocess.Popen(
        ["agent-broker-run", "one", "--", PYTHON, *words], executable=launcher,
        env={"AGENT_BROKER_ROOT": root, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    with broker.accept() as connection:
        request = decode_request(connection.recv(MAX_FRAME_BYTES + 1))
        connection.send(encode_answer(said))
    return request, *shim.finish(process)


def told(out: bytes) -> dict[str, object]:
    import json  # noqa: PLC0415 - of this alone

    return json.loads(out)


def test_it_asks_with_names_and_the_path_alone(broker, launcher):
    request, *_ = launched(broker, launcher, ShimAnswer(3, stderr=b"agent-broker: no\n"), "--secret-argument")

    assert request == ShimRequest("run", ("one", "--", PYTHON))


def test_a_refusal_is_printed_and_nothing_is_executed(broker, launcher):
    _, code, out, err = launched(broker, launcher, ShimAnswer(3, stderr=b"agent-broker: no\n"), "-c", "print('ran')")

    assert (code, out, err) == (3, b"", b"agent-broker: no\n")


def test_it_becomes_the_command_with_the_variable(broker, launcher):
    said = answer("Apython", "ETOKEN=s3cret=", stderr=b"said once\n")

    _, code, out, err = launched(
        broker, launcher, said, "-c", _TELL, "an argument", KEPT="1", TOKEN="the caller's", TOKENS="2"
    )

    child = told(out)
    assert code == 0
    assert err == b"said once\n"
    assert child["argv"] == ["-c", "an argument"]
    assert child["environment"]["TOKEN"] == "s3cret="
    assert (child["environment"]["KEPT"], child["environment"]["TOKENS"]) == ("1", "2")
    assert child["core"] == [0, 0]


def test_a_variable_that_is_there_twice_is_there_once(broker, launcher):
    _, _, out, _ = launched(
        broker, launcher, answer("Acat", "ETOKEN=ours", path="/usr/bin/cat"), "/proc/self/environ", TOKEN="theirs"
    )

    assert [each for each in out.split(b"\0") if each.startswith(b"TOKEN=")] == [b"TOKEN=ours"]


_READ = """import fcntl, os, sys
path = os.environ.get("CONFIG") or sys.argv[2]
print(open(path).read(), end="")
fd = int(path.rpartition("/")[2])
print(fcntl.fcntl(fd, fcntl.F_GET_SEALS), os.lseek(fd, 0, os.SEEK_CUR), os.readlink(path).split()[0])
"""


@pytest.mark.parametrize("how", ["FCONFIG", "O--netrc"])
def test_a_file_in_memory_is_sealed_and_is_read_from_its_start(broker, launcher, how):
    words = ("Apython", "A-c", f"A{_READ}") if how.startswith("O") else ("Apython",)
    more = () if how.startswith("O") else ("-c", _READ)

    _, code, out, err = launched(broker, launcher, answer(*words, how, "Dline\nsecret\n"), *more)

    seals = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE
    first, second, facts = out.decode().splitlines()
    assert (code, err, first, second) == (0, b"", "line", "secret")
    assert int(facts.split()[0]) & seals == seals
    assert facts.split()[1:] == ["0", "/memfd:agent-broker-run"]


def test_an_option_comes_before_the_commands_own_arguments(broker, launcher):
    said = answer("Aecho", "O--file", "Dx", path="/usr/bin/echo")

    _, _, out, _ = launched(broker, launcher, said, "mine")

    option, path, mine = out.decode().split()
    assert (option, mine) == ("--file", "mine")
    assert path.startswith("/proc/self/fd/")


def test_another_file_in_the_place_is_not_executed(broker, launcher):
    said = ShimAnswer(0, f"X{PYTHON}\0N{numbers('/usr/bin/cat')}\0Apython\0ETOKEN=s3cret\0".encode())

    _, code, out, err = launched(broker, launcher, said, "-c", "print('ran')")

    assert (code, out) == (1, b"")
    assert b"another file than the broker's" in err


def test_a_link_in_the_place_is_not_executed(broker, launcher, tmp_path):
    link = tmp_path / "python"
    link.symlink_to(PYTHON)
    said = ShimAnswer(0, f"X{link}\0N{numbers(PYTHON)}\0Apython\0".encode())

    _, code, out, _ = launched(broker, launcher, said, "-c", "print('ran')")

    assert (code, out) == (1, b"")


@pytest.mark.parametrize(
    "items", [b"", b"Acat", b"Acat\0", b"X/usr/bin/cat\0Acat\0", b"N1\0Acat\0", b"FCONFIG\0Acat\0"], ids=repr
)
def test_an_answer_that_is_not_whole_is_not_acted_on(broker, launcher, items):
    _, code, out, err = launched(broker, launcher, ShimAnswer(0, items), "/etc/hostname")

    assert code in {1, 4}
    assert (out, err[:13]) == (b"", b"agent-broker:")


def test_an_answer_that_is_cut_is_not_acted_on(broker, launcher):
    said = ShimAnswer(0, f"X{PYTHON}\0N{numbers(PYTHON)}\0Apython\0ETOKEN=s3c".encode())

    _, code, out, _ = launched(broker, launcher, said, "-c", "print('ran')")

    assert (code, out) == (4, b"")


@pytest.mark.parametrize("words", [[], ["one"], ["--", PYTHON], ["one", "--"], ["one", "--", "python"]])
def test_without_names_and_a_whole_path_it_asks_nobody(launcher, words):
    done = subprocess.run(
        ["agent-broker-run", *words], executable=launcher, env={}, capture_output=True, check=False, timeout=30
    )

    assert done.returncode == 2
    assert b"usage" in done.stderr


def test_nobody_else_serves_it(tmp_path):
    other = shim.compiled(source="launcher.c", name="agent-broker-run", server_uid=os.geteuid() + 1)
    with ScriptedBroker(tmp_path) as broker:
        process = subprocess.Popen(
            ["agent-broker-run", "one", "--", PYTHON], executable=other, env={"AGENT_BROKER_ROOT": str(tmp_path)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        with broker.accept() as connection:
            assert connection.recv(MAX_FRAME_BYTES + 1) == b""
        code, _, err = shim.finish(process)

    assert code == 4
    assert b"root does not serve" in err


def test_it_is_one_small_static_file(launcher):
    assert Path(launcher).stat().st_size < 32_000
