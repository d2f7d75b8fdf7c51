"""Where a path leads, and since when."""

import os

import pytest

from agent_broker.identity import resolution
from agent_broker.identity.resolution import mounted_by_users, resolve

OWNER = 1500


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "user"
    (folder / "lib/package").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "lib/package/main.js").write_text("")
    (folder / "bin/tool").symlink_to("../lib/package/main.js")
    if os.getuid() == 0:
        for each in (folder, *folder.rglob("*")):
            os.chown(each, OWNER, OWNER, follow_symlinks=False)
    return folder


def at(path):
    return resolve(os.fsencode(path))


def next_tick(place):
    """Return a time of the clock that files get theirs from, later than all that they have so far; it goes in ticks."""
    probe = place.parent / "probe"
    probe.touch()
    first_ns = probe.stat().st_ctime_ns
    while (now_ns := probe.stat().st_ctime_ns) == first_ns:
        probe.touch()
    return now_ns


def test_links_are_followed(place):
    (place / "absolute").symlink_to(place / "bin")

    assert at(place / "bin/tool").path == str(place / "lib/package/main.js")
    assert at(place / "absolute/tool").path == str(place / "lib/package/main.js")


def test_a_link_behind_which_readers_could_differ_leads_nowhere(place):
    (place / "elsewhere").symlink_to("lib/package")
    (place / "bin/odd").symlink_to("../elsewhere/../package/main.js")

    assert (place / "bin/odd").exists()
    assert at(place / "bin/odd").path == ""


def test_what_is_no_regular_file_is_nowhere(place):
    (place / "loop").symlink_to("loop")
    os.mkfifo(place / "pipe")

    assert at(place / "lib").path == ""
    assert at(place / "loop").path == ""
    assert at(place / "pipe").path == ""
    assert at(f"{place}/lib/package/main.js/x").path == ""
    with pytest.raises(FileNotFoundError):
        at(place / "missing")


@pytest.mark.parametrize("part", ["bin", "bin/tool", "lib", "lib/package", "lib/package/main.js"])
def test_what_was_moved_away_and_back_is_younger(place, part):
    before = at(place / "bin/tool")
    now_ns = next_tick(place)

    (place / part).rename(place / "aside")
    (place / "aside").rename(place / part)
    after = at(place / "bin/tool")

    assert before.newest_ns < now_ns <= after.newest_ns


def test_what_lies_beside_the_path_does_not_count(place):
    (place / "other").mkdir()
    before = at(place / "bin/tool")
    next_tick(place)

    (place / "other").chmod(0o700)
    (place / "other/new").write_text("")

    assert at(place / "bin/tool").newest_ns == before.newest_ns
    (place / "lib").chmod(0o700)
    assert at(place / "bin/tool").newest == str(place / "lib")


@pytest.mark.skipif(os.getuid() != 0, reason="only root has files of root's")
def test_what_only_root_can_replace_does_not_count():
    assert at("/usr/bin/env").newest_ns == 0


def test_a_file_system_whose_times_prove_nothing_is_named(place, monkeypatch):
    monkeypatch.setattr(resolution, "MOVES_CHANGE_TIMES", {})

    assert "may not record who moved a file" in at(place / "bin/tool").problem


def test_a_place_where_a_user_mounted_something_is_not_touched(place, monkeypatch):
    monkeypatch.setattr(resolution, "mounted_by_users", lambda: frozenset({os.fsencode(place / "lib")}))

    assert "is mounted from what a user can answer for" in at(place / "bin/tool").problem


def test_the_mount_table_can_be_read():
    assert b"/" not in mounted_by_users()
