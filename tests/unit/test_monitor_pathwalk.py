"""From a path to its inode: component by component, and never through a link."""

import os

import pytest

from agent_broker.monitor.fanotify import file_key
from agent_broker.monitor.pathwalk import Walk


@pytest.fixture
def decoy(tmp_path):
    path = tmp_path / "home" / ".claude" / "credentials"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return path


def test_a_walk_finds_the_file_and_the_folders_on_the_way(decoy):
    with Walk(str(decoy)) as walk:
        assert walk.problem == ""
        assert walk.identity() == (decoy.stat().st_dev, decoy.stat().st_ino)
        assert [os.fstat(each).st_ino for each in walk.directories] == [
            each.stat().st_ino for each in reversed(decoy.parents)
        ]
        assert walk.next_name == "credentials"


def test_a_walk_opens_nothing(decoy):
    with Walk(str(decoy)) as walk, pytest.raises(OSError, match="Bad file descriptor"):
        os.read(walk.file, 1)


def test_every_descriptor_is_closed(decoy):
    before = len(os.listdir("/proc/self/fd"))

    for path in (decoy, decoy.parent, decoy / "below", "/", "relative", "/missing/file"):
        Walk(str(path)).close()

    assert len(os.listdir("/proc/self/fd")) == before


def link_file(decoy):
    target = decoy.with_name("target")
    decoy.rename(target)
    decoy.symlink_to(target)


def link_folder(decoy):
    real = decoy.parent.with_name("real")
    decoy.parent.rename(real)
    decoy.parent.symlink_to(real)


def fifo(decoy):
    decoy.unlink()
    os.mkfifo(decoy)


def folder(decoy):
    decoy.unlink()
    decoy.mkdir()


SPOILED = {
    "deleted": (os.unlink, "credentials: No such file or directory", "credentials"),
    "symbolic link": (link_file, "credentials is a symbolic link", "credentials"),
    "linked folder": (link_folder, ".claude is a symbolic link", ".claude"),
    "fifo": (fifo, "credentials is not a regular file", "credentials"),
    "folder": (folder, "credentials is not a regular file", "credentials"),
}


@pytest.mark.parametrize(("spoil", "problem", "stopped_at"), SPOILED.values(), ids=SPOILED.keys())
def test_what_is_not_a_plain_file_is_a_problem(decoy, spoil, problem, stopped_at):
    spoil(decoy)

    with Walk(str(decoy)) as walk:
        assert walk.file is None
        assert walk.problem == f"{decoy} can't be watched: {problem}"
        assert walk.next_name == stopped_at
        with pytest.raises(ValueError, match="can't be watched"):
            walk.identity()


@pytest.mark.parametrize("path", ["relative/file", "/", "", "/a/../b"])
def test_paths_that_name_no_file_are_refused(path):
    with Walk(path) as walk:
        assert "is not an absolute path of a file" in walk.problem


def test_keys_tell_a_file_from_its_successor(decoy):
    with Walk(str(decoy)) as walk:
        first = file_key(walk.file)
    decoy.unlink()
    decoy.write_text("{}")

    with Walk(str(decoy)) as walk:
        assert first is not None
        assert file_key(walk.file) != first
