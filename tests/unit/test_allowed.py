"""The records of allowed programs: written, read, refused."""

import time

import msgspec
import pytest

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.identity.allowed import AllowedProgram, allow, is_interpreter, load_allowed, remove_allowed

NOW_NS = time.time_ns()
GREP = AllowedProgram("/usr/bin/grep", "ab" * 32, "grep 3.8", ("/home/ann/.netrc",), "my search", NOW_NS, 0)


def test_what_is_allowed_is_read_again_and_can_be_taken_back(tmp_path):
    later = msgspec.structs.replace(GREP, opens=("/home/ann/.ssh/id_*",), added_ns=NOW_NS + 1)

    allow(tmp_path, later)
    allow(tmp_path, GREP)
    allow(tmp_path, GREP)

    assert load_allowed(tmp_path) == (GREP, later)
    remove_allowed(tmp_path, GREP)
    remove_allowed(tmp_path, GREP)
    assert load_allowed(tmp_path) == (later,)
    assert load_allowed(tmp_path / "missing") == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"program": "/usr/bin/python3.11"}, {"program": "/usr/bin/node"}, {"program": "/tmp/bash"}, {"program": "grep"},
        {"program": "/lib64/ld-linux-x86-64.so.2"}, {"reason": " "}, {"reason": "x" * 501}, {"opens": ("~/.netrc",)},
        {"sha256": "AB" * 32}, {"sha256": "ab"}, {"expires_ns": NOW_NS - 1},
    ],
)  # fmt: skip
def test_what_can_not_be_allowed(tmp_path, wrong):
    with pytest.raises(MisuseError):
        allow(tmp_path, msgspec.structs.replace(GREP, **wrong))
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_others_could_have_written_is_refused(tmp_path):
    allow(tmp_path, GREP)
    (tmp_path / GREP.file_name).chmod(0o666)

    with pytest.raises(IntegrityError):
        load_allowed(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"path": 1}'])
def test_a_file_that_is_no_record_is_refused_with_its_name(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)

    with pytest.raises(MisuseError, match=r"x\.json is not an allowed program"):
        load_allowed(tmp_path)


def test_an_expiry_is_a_moment():
    limited = msgspec.structs.replace(GREP, expires_ns=10)

    assert (limited.holds_at(9), limited.holds_at(10), GREP.holds_at(1 << 62)) == (True, False, True)


@pytest.mark.parametrize("name", ["python", "python3", "python3.11", "pypy3", "node", "nodejs", "bun", "sh", "dash", "bash", "zsh", "perl5.36", "ruby3.1", "php", "lua5.4", "java", "busybox", "gawk", "env"])  # fmt: skip # noqa: E501
def test_interpreters(name):
    assert is_interpreter(f"/usr/bin/{name}")


@pytest.mark.parametrize("name", ["ssh", "git", "gh", "docker", "javac", "nodemon", "ssh-add", "rsync", "bashtop"])
def test_programs_that_are_none(name):
    assert not is_interpreter(f"/usr/bin/{name}")
