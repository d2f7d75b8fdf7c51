"""Finding and hashing the agent's executable."""

import hashlib
import os
import shutil
import struct

import pytest

from agent_broker.enroll.binaries import examine, find_binaries, unchanged
from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.owner import Owner
from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.ids import Uid

OWNER = Owner(Uid(61234), 61234, (61234,), "u", "/home/u")


@pytest.fixture
def binary(tmp_path):
    path = tmp_path / "versions" / "2.1.330"
    path.parent.mkdir()
    shutil.copy("/bin/true", path)
    return path


def test_the_open_file_is_hashed(binary):
    seen = []
    found = examine(binary, OWNER, lambda path, done, total: seen.append((path, done, total)))
    size = binary.stat().st_size
    assert found.enrolled.sha256 == hashlib.sha256(binary.read_bytes()).hexdigest()
    assert (found.enrolled.path, found.enrolled.size_bytes) == (str(binary), size)
    assert seen[-1] == (str(binary), size, size)


def test_links_are_resolved(binary, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/claude").symlink_to("../versions/latest")
    (tmp_path / "versions/latest").symlink_to("2.1.330")
    assert examine(tmp_path / "bin/claude", OWNER).enrolled.path == str(binary)


def test_a_binary_that_changes_while_it_is_hashed(binary):
    def write(_path, done, total):
        if done == total:
            with binary.open("ab") as file:
                file.write(b"x")

    with pytest.raises(IntegrityError, match=f"{binary}: the file changed"):
        examine(binary, OWNER, write)


def elf(kind=3, machine=None, bits=2, order=1):
    machine = {"x86_64": 62, "aarch64": 183}[os.uname().machine] if machine is None else machine
    return struct.pack("<4sBB10xHH", b"\x7fELF", bits, order, kind, machine) + bytes(64)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#!/usr/bin/env node\n" + bytes(64), "script"),
        (b"MZ" + bytes(64), "not an ELF"),
        (b"", "not an ELF"),
        (b"\x7fELF", "not an ELF"),
        (elf(kind=1), "not a 64-bit ELF executable"),
        (elf(kind=4), "not a 64-bit ELF executable"),
        (elf(bits=1), "not a 64-bit ELF executable"),
        (elf(order=2), "not a 64-bit ELF executable"),
        (elf(machine=243), "another kind of machine"),
    ],
)
def test_what_the_kernel_could_not_run(tmp_path, content, says):
    path = tmp_path / "claude"
    path.write_bytes(content)
    path.chmod(0o755)
    with pytest.raises(MisuseError, match=says):
        examine(path, OWNER)


def test_what_is_no_executable_file(binary, tmp_path):
    binary.chmod(0o644)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, says in (
        (binary, "not executable"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "missing", "can't be opened"),
        (tmp_path / "loop", "can't be opened"),
    ):
        with pytest.raises(MisuseError, match=says):
            examine(path, OWNER)


def test_the_first_candidate_is_enrolled_and_others_are_named(binary, tmp_path):
    other = tmp_path / "other"
    shutil.copy("/bin/true", other)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    (tmp_path / "again").symlink_to(binary)
    candidates = (tmp_path / "missing", script, binary, tmp_path / "again", other)
    found, others = find_binaries((), candidates, OWNER)
    assert [each.enrolled.path for each in found] == [str(binary)]
    assert others == (str(other),)


def test_what_the_operator_names_is_enrolled_and_nothing_else(binary, tmp_path):
    found, others = find_binaries((binary,), (tmp_path / "missing",), OWNER)
    assert [each.enrolled.path for each in found] == [str(binary)]
    assert others == ()
    with pytest.raises(MisuseError):
        find_binaries((binary, tmp_path / "missing"), (), OWNER)


def test_nothing_found(tmp_path):
    with pytest.raises(MisuseError, match="not found") as caught:
        find_binaries((), (tmp_path / "missing",), OWNER)
    assert "--binary" in caught.value.next_step


def test_a_change_after_the_hash_is_noticed(binary):
    found = examine(binary, OWNER)
    assert unchanged(found)
    os.utime(binary)
    assert not unchanged(found)
    binary.unlink()
    assert not unchanged(found)


@pytest.mark.parametrize(
    ("spoil", "writable"),
    [
        (lambda path: path.touch(), False),
        (lambda path: os.chown(path, OWNER.uid, -1), True),
        (lambda path: path.chmod(0o777), True),
        (lambda path: (os.chown(path, -1, OWNER.gid), path.chmod(0o775)), True),
        (lambda path: os.chown(path.parent, OWNER.uid, -1), True),
        (lambda path: path.parent.chmod(0o777), True),
        (lambda path: path.parent.chmod(0o1777), False),
    ],
)
def test_whether_the_user_could_replace_it(binary, spoil, writable):
    spoil(binary)
    assert examine(binary, OWNER).writable_by_owner is writable


def test_where_claude_is_looked_for(tmp_path):
    for name in (".nvm/versions/node/v9/bin/claude", ".nvm/versions/node/v22/bin/claude"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in ("2.1.9", "2.1.10"):
        (tmp_path / ".local/share/claude/versions").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".local/share/claude/versions" / name).touch()
    owner = Owner(Uid(1), 1, (1,), "u", str(tmp_path))
    found = [str(path) for path in ClaudeRecipe().binary_candidates(owner, [tmp_path / "path"])]
    assert found[0] == f"{tmp_path}/path/claude"
    assert found[1] == f"{tmp_path}/.local/bin/claude"
    assert f"{tmp_path}/.claude/local/node_modules/.bin/claude" in found
    assert next(path for path in found if "nvm" in path).endswith("v22/bin/claude")
    assert [path.rpartition("/")[2] for path in found[-2:]] == ["2.1.10", "2.1.9"]
