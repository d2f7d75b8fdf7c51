"""Replacing a file while somebody else writes it: nobody's version is lost."""

import os
import stat

import pytest

from agent_broker.enroll import beneath, file_work
from agent_broker.enroll.beneath import exchange, open_beneath, open_without_links, rename_to_new
from agent_broker.enroll.file_facts import FileProblemError
from agent_broker.enroll.file_protocol import Expected, Stage, sha256_of
from agent_broker.enroll.file_work import Home

TEMPORARY = ".x.new"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x").write_bytes(b"old")
    return Home(str(tmp_path))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "folder"


def expected(home):
    seen = home.read("folder/x", 100)
    return Expected(seen.state, sha256_of(seen.data))


def stage(home, data=b"new", mode=0o640, times=None):
    home.stage(Stage("folder/x", TEMPORARY, data, mode, os.getegid(), times))


def test_exchange_and_discard(home, folder):
    version = expected(home)
    stage(home)
    home.swap("folder/x", TEMPORARY, version)
    assert (folder / "x").read_bytes() == b"new"
    assert (folder / TEMPORARY).read_bytes() == b"old"
    assert stat.S_IMODE((folder / "x").stat().st_mode) == 0o640
    home.discard("folder/x", TEMPORARY)
    home.discard("folder/x", TEMPORARY)
    assert os.listdir(folder) == ["x"]


@pytest.mark.parametrize("how", ["in place", "by rename", "deleted", "a link"])
def test_a_change_before_the_exchange_stops_it(home, folder, how):
    version = expected(home)
    stage(home)
    if how == "in place":
        (folder / "x").write_bytes(b"own")
    elif how == "by rename":
        (folder / "y").write_bytes(b"old")
        (folder / "y").rename(folder / "x")
    else:
        (folder / "x").unlink()
        if how == "a link":
            (folder / "x").symlink_to("/etc/hostname")
    with pytest.raises(FileProblemError) as caught:
        home.swap("folder/x", TEMPORARY, version)
    assert caught.value.problem == "changed"
    assert (folder / TEMPORARY).read_bytes() == b"new"


@pytest.mark.parametrize("how", ["in place", "by rename", "a link"])
def test_a_change_between_the_check_and_the_exchange_is_taken_back(home, folder, how, monkeypatch):
    version = expected(home)
    stage(home)
    calls = []

    def race(folder_fd, name, other):
        if not calls:
            if how == "in place":
                (folder / "x").write_bytes(b"theirs")
            elif how == "by rename":
                (folder / "y").write_bytes(b"theirs")
                (folder / "y").rename(folder / "x")
            else:
                (folder / "x").unlink()
                (folder / "x").symlink_to("theirs")
        calls.append(name)
        return exchange(folder_fd, name, other)

    monkeypatch.setattr(file_work, "exchange", race)
    with pytest.raises(FileProblemError):
        home.swap("folder/x", TEMPORARY, version)
    assert len(calls) == 2
    assert os.listdir(folder) == ["x"]
    if how == "a link":
        assert str((folder / "x").readlink()) == "theirs"
    else:
        assert (folder / "x").read_bytes() == b"theirs"


def test_a_second_change_while_it_is_taken_back_is_kept_too(home, folder, monkeypatch):
    version = expected(home)
    stage(home)

    def race(folder_fd, name, other):
        (folder / "y").write_bytes(b"theirs %d" % len(os.listdir(folder)))
        (folder / "y").rename(folder / "x")
        return exchange(folder_fd, name, other)

    monkeypatch.setattr(file_work, "exchange", race)
    with pytest.raises(FileProblemError):
        home.swap("folder/x", TEMPORARY, version)
    assert sorted(file.read_bytes()[:6] for file in folder.iterdir()) == [b"theirs", b"theirs"]


def test_a_file_system_without_exchange(home, folder, monkeypatch):
    monkeypatch.setattr(file_work, "exchange", lambda *_: False)
    version = expected(home)
    stage(home)
    home.swap("folder/x", TEMPORARY, version)
    home.discard("folder/x", TEMPORARY)
    assert (folder / "x").read_bytes() == b"new"
    assert os.listdir(folder) == ["x"]


@pytest.mark.parametrize("flags", [True, False])
def test_a_new_file_never_replaces_one(home, folder, monkeypatch, flags):
    if not flags:
        monkeypatch.setattr(beneath, "_renameat2", lambda *_: False)
    stage(home)
    with pytest.raises(FileProblemError):
        home.swap("folder/x", TEMPORARY, None)
    assert (folder / "x").read_bytes() == b"old"
    (folder / "x").unlink()
    home.swap("folder/x", TEMPORARY, None)
    assert (folder / "x").read_bytes() == b"new"
    assert os.listdir(folder) == ["x"]


def test_withdraw(home, folder):
    home.withdraw("folder/x", TEMPORARY, expected(home))
    assert os.listdir(folder) == []


def test_withdraw_of_another_version(home, folder, monkeypatch):
    version = expected(home)
    (folder / "x").write_bytes(b"own")
    with pytest.raises(FileProblemError):
        home.withdraw("folder/x", TEMPORARY, version)

    def race(folder_fd, name, new):
        if new == TEMPORARY:
            (folder / "x").write_bytes(b"theirs")
        rename_to_new(folder_fd, name, new)

    version = expected(home)
    monkeypatch.setattr(file_work, "rename_to_new", race)
    with pytest.raises(FileProblemError):
        home.withdraw("folder/x", TEMPORARY, version)
    assert (folder / "x").read_bytes() == b"theirs"
    assert os.listdir(folder) == ["x"]


def test_times_are_given_to_the_nanosecond(home, folder):
    stage(home, times=(1_000_000_001, 2_000_000_002))
    facts = (folder / TEMPORARY).stat()
    assert (facts.st_atime_ns, facts.st_mtime_ns) == (1_000_000_001, 2_000_000_002)


def test_a_leftover_of_a_killed_run_is_replaced_and_not_followed(home, folder):
    (folder / TEMPORARY).symlink_to("x")
    stage(home)
    assert (folder / "x").read_bytes() == b"old"
    assert (folder / TEMPORARY).read_bytes() == b"new"


def test_reading_does_not_move_the_time_of_access(home, folder):
    os.utime(folder / "x", ns=(1, 2))
    home.read("folder/x", 100)
    assert (folder / "x").stat().st_atime_ns == 1


def test_a_file_that_grows_while_it_is_read(home, folder, monkeypatch):
    real = open_beneath

    def grow(*arguments):
        fd = real(*arguments)
        if arguments[1] == "x" and not arguments[2] & os.O_PATH:
            (folder / "x").write_bytes(b"older")
        return fd

    monkeypatch.setattr(file_work, "open_beneath", grow)
    with pytest.raises(FileProblemError) as caught:
        home.read("folder/x", 100)
    assert caught.value.problem == "changed"


def test_links_lead_nowhere(home, folder, tmp_path):
    (tmp_path / "link").symlink_to("folder")
    (folder / "out").symlink_to("/etc")
    (folder / "magic").symlink_to("/proc/self/root")
    for path in ("link/x", "folder/out/passwd", "folder/magic/etc/passwd", "folder/../../x", "/etc/passwd"):
        with pytest.raises(FileProblemError):
            home.read(path, 1 << 20)
    with pytest.raises(OSError, match="symbolic"):
        open_without_links(str(tmp_path / "link/x"), os.O_RDONLY)


def test_names_that_a_terminal_would_misread_are_not_listed(home, folder):
    (folder / "a\x1b[2J").touch()
    os.close(os.open(os.fsencode(folder) + b"/\xff", os.O_CREAT))
    assert home.list_folder("folder") == ("x",)
    assert home.list_folder("missing") == ()
