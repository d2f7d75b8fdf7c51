"""One walk for all patterns: what is watched for entries, what is found, what is not entered."""

import os
from pathlib import Path

import pytest

from agent_broker.monitor import survey as module
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import Wanted, tree_of
from agent_broker.monitor.survey import survey


class Findings:
    def __init__(self, above):
        self.above = str(above)
        self.folders, self.files, self.reasons, self.foreign = [], [], {}, set()
        self.on_entries = lambda _path: None

    def folder(self, _fd, path, _state, *, entries):
        if path.startswith(self.above):
            self.folders.append((path.removeprefix(self.above), entries))
            if entries:
                self.on_entries(path)
        return True

    def file(self, fd, path, _wanted):
        assert os.fstat(fd).st_ino == Path(path).stat().st_ino
        self.files.append(path.removeprefix(self.above))

    def is_foreign(self, path):
        return path in self.foreign

    def missing(self, _state, path, why):
        self.reasons[path.removeprefix(self.above)] = why


def look(folder, *patterns, way="/", findings=None):
    wanted = [Wanted(f"{folder}{each}", Mark(f"{folder}{each}", None, 0, deny=False)) for each in patterns]
    findings = findings or Findings(folder)
    survey(tree_of(wanted), findings, way)
    return findings


def make(folder, *files):
    for each in files:
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).write_text("x")


def test_every_folder_is_entered_once_and_what_matches_is_found(tmp_path):
    make(tmp_path, "a/1", "a/2", "a/b/3", "g/x/y/4", "other/5")

    found = look(tmp_path, "/a/*", "/a/b/3", "/a/2", "/g/**")

    assert sorted(found.files) == ["/a/1", "/a/2", "/a/b/3", "/g/x/y/4"]
    listed = [(path, True) for path in ("/a", "/a/b", "/g", "/g/x", "/g/x/y")]
    assert sorted(found.folders) == [("", False), *listed]


def test_a_folder_is_watched_for_what_is_missing_in_it(tmp_path):
    found = look(tmp_path, "/a/b/c")

    assert found.folders == [("", False), ("", True)]
    assert found.reasons == {"/a": "a: No such file or directory"}


def test_what_appears_before_the_folder_is_watched_is_found(tmp_path):
    findings = Findings(tmp_path)
    findings.on_entries = lambda path: make(tmp_path, "a/b/c") if path == str(tmp_path) else None

    look(tmp_path, "/a/b/c", findings=findings)

    assert findings.files == ["/a/b/c"]


def test_a_way_leaves_everything_else_alone(tmp_path):
    make(tmp_path, "a/1", "a/2", "b/1")

    found = look(tmp_path, "/a/*", "/b/*", way=f"{tmp_path}/a/2")

    assert found.files == ["/a/2"]
    assert found.folders == [("", False), ("/a", True)]


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_what_is_no_file_is_not_taken_for_one(tmp_path, what):
    make(tmp_path, "victim")
    path = tmp_path / "token"
    {"link": lambda: path.symlink_to("victim"), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[what]()

    found = look(tmp_path, "/token")

    assert found.files == []
    assert "/token" in found.reasons


def test_a_link_to_a_folder_and_a_foreign_file_system_are_not_entered(tmp_path):
    make(tmp_path, "real/token", "fuse/token")
    (tmp_path / "link").symlink_to("real")
    findings = Findings(tmp_path)
    findings.foreign.add(f"{tmp_path}/fuse")

    look(tmp_path, "/link/token", "/fuse/token", findings=findings)

    assert findings.files == []
    assert findings.reasons["/link"] == "link is a symbolic link"
    assert "user answers for" in findings.reasons["/fuse"]


def test_depth_and_entries_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    monkeypatch.setattr(module, "MAX_DEPTH", str(tmp_path).count("/") + 3)
    make(tmp_path, *(f"many/{number}" for number in range(9)), "d/1/2/3/4/5/x")

    found = look(tmp_path, "/many/*", "/d/**", "/many/8")

    assert len([each for each in found.files if each.startswith("/many")]) in {3, 4}
    assert "/many/8" in found.files
    assert not [each for each in found.files if each.startswith("/d")]


def test_no_descriptor_is_left_behind(tmp_path):
    make(tmp_path, "a/1", "a/b/3")
    before = len(os.listdir("/proc/self/fd"))

    look(tmp_path, "/a/**", "/missing/x", "/a/1/x")

    assert len(os.listdir("/proc/self/fd")) == before
