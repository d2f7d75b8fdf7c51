"""What may be given a secret: files of root's, by package or by hash, and how a script is started."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from agent_broker.errors import RefusedError
from agent_broker.identity.command import command_of, numbers_of
from agent_broker.identity.distribution import Package

NOBODY = 65534
BASH, PYTHON = os.path.realpath("/bin/bash"), os.path.realpath("/usr/bin/python3")


class Packages:
    """A distribution that brought the files of these paths."""

    def __init__(self):
        self.owned = {BASH, PYTHON}
        self.tampered: set[str] = set()

    def owner_of(self, path, facts):  # noqa: ARG002 - the real one compares them
        return Package("one", "1", path not in self.tampered) if path in self.owned else None


@pytest.fixture
def packages():
    return Packages()


def program(folder: Path, content: bytes = b"", name: str = "program") -> str:
    """A file of root's; without content a copy of a real program."""
    path = folder / name
    if content:
        path.write_bytes(content)
    else:
        shutil.copyfile(BASH, path)
    path.chmod(0o755)
    return str(path)


def named(*paths: str) -> dict[str, str]:
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


def test_a_packages_program_is_executed_itself(packages):
    command = command_of(BASH, {}, packages)

    assert (command.path, command.words) == (BASH, (BASH,))
    assert command.numbers == numbers_of(Path(BASH).stat())


def test_a_package_that_was_tampered_with_is_none(packages):
    packages.tampered.add(BASH)

    with pytest.raises(RefusedError, match="is no package's, and root did not name it"):
        command_of(BASH, {}, packages)


def test_what_no_package_owns_has_the_hash_that_root_named(tmp_path, packages):
    path = program(tmp_path)

    assert command_of(path, named(path), packages).path == path
    with pytest.raises(RefusedError, match="root did not name it"):
        command_of(path, {}, packages)


def test_a_named_file_that_was_changed_is_none(tmp_path, packages):
    path = program(tmp_path)
    before = named(path)
    with Path(path).open("ab") as file:
        file.write(b"more")

    with pytest.raises(RefusedError, match="was changed since it was named"):
        command_of(path, before, packages)


def others_file(path: Path) -> None:
    os.chown(path, NOBODY, -1)


def writable(path: Path) -> None:
    path.chmod(0o775)


def setuid(path: Path) -> None:
    path.chmod(0o4755)


def in_a_folder_of_others(path: Path) -> None:
    os.chown(path.parent, NOBODY, -1)


def in_a_folder_for_all(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.parametrize("spoil", [others_file, writable, setuid, in_a_folder_of_others, in_a_folder_for_all])
def test_what_others_could_have_written_is_none_whatever_its_hash(tmp_path, packages, spoil):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    path = program(folder)
    hashes = named(path)
    spoil(Path(path))

    with pytest.raises(RefusedError, match="is given no secret"):
        command_of(path, hashes, packages)


@pytest.mark.parametrize("path", ["/usr/bin/../bin/cat", "/proc/self/exe", "/usr/bin", "/nowhere/x", "relative", ""])
def test_a_path_that_is_not_plain_is_none(packages, path):
    with pytest.raises(RefusedError):
        command_of(path, {}, packages)


def test_a_link_is_none(tmp_path, packages):
    link = tmp_path / "link"
    link.symlink_to(BASH)

    with pytest.raises(RefusedError, match="links"):
        command_of(str(link), {}, packages)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"#!/bin/bash\n", (BASH,)),
        (b"#! /bin/bash -e \n", (BASH, "-e")),
        (b"#!/usr/bin/env bash\n", (BASH,)),
        (b"#!/usr/bin/env -S bash -e -u\n", (BASH, "-e", "-u")),
        (b"#!/usr/bin/python3\n", (PYTHON, "-sE")),
        (b"#!/usr/bin/env python3\r\n", (PYTHON, "-sE")),
    ],
)
def test_a_scripts_interpreter_is_executed_by_its_full_path(tmp_path, packages, line, words):
    path = program(tmp_path, line + b"true\n", "script")

    command = command_of(path, named(path), packages)

    assert command.words == (*words, path)
    assert command.path == words[0]
    assert command.numbers == numbers_of(Path(words[0]).stat())


@pytest.mark.parametrize(
    "line",
    [
        b"#!/usr/bin/env A=1 bash\n", b"#!/usr/bin/env -i bash\n", b"#!/usr/bin/env ../../tmp/bash\n",
        b"#!/usr/bin/env\n", b"#!bash\n", b"#!/usr/bin/make -f\n", b"#!/nowhere/other\n", b"#!\n",
    ],
)  # fmt: skip
def test_an_interpreter_that_is_not_understood_is_none(tmp_path, packages, line):
    path = program(tmp_path, line + b"true\n", "script")

    with pytest.raises(RefusedError, match="interpreter"):
        command_of(path, named(path), packages)


def test_a_scripts_interpreter_must_be_as_good_as_the_script(tmp_path, packages):
    packages.tampered.add(BASH)
    path = program(tmp_path, b"#!/bin/bash\n", "script")

    with pytest.raises(RefusedError, match=BASH):
        command_of(path, named(path), packages)


def test_an_interpreter_that_is_a_script_is_none(tmp_path, packages):
    inner = program(tmp_path, b"#!/bin/bash\n", "python3")
    outer = program(tmp_path, f"#!{inner}\n".encode(), "outer")

    with pytest.raises(RefusedError, match="a script itself"):
        command_of(outer, named(inner, outer), packages)
