"""Replacing a file while somebody else writes it: nobody's version is lost."""

import os
import stat

import pytest

from agent_broker.disk import replace_file, sweep
from agent_broker.enroll import beneath, file_replacing
from agent_broker.enroll.beneath import exchange, open_beneath, open_without_links, rename_to_new
from agent_broker.enroll.file_facts import FileProblemError
from agent_broker.enroll.file_protocol import Stage
from agent_broker.enroll.file_state import Expected, sha256_of
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

    monkeypatch.setattr(file_replacing, "exchange", race)
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

    monkeypatch.setattr(file_replacing, "exchange", race)
    with pytest.raises(FileProblemError):
        home.swap("folder/x", TEMPORARY, version)
    assert sorted(file.read_bytes()[:6] for file in folder.iterdir()) == [b"theirs", b"theirs"]


def test_a_file_system_without_exchange(home, folder, monkeypatch):
    monkeypatch.setattr(file_replacing, "exchange", lambda *_: False)
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
    monkeypatch.setattr(file_replacing, "rename_to_new", race)
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

    monkeypatch.setattr(file_replacing, "open_beneath", grow)
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


@pytest.fixture
def order(monkeypatch):
    """What reaches the disk, and what is renamed, in its order."""
    seen = []
    fsync = os.fsync

    def noted(fd):
        facts = os.fstat(fd)
        seen.append("fsync of the folder" if stat.S_ISDIR(facts.st_mode) else f"fsync of {facts.st_size} bytes")
        fsync(fd)

    def named(name, work):
        def call(*arguments, **named_ones):
            seen.append(name)
            return work(*arguments, **named_ones)

        return call

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(file_replacing, "exchange", named("exchange", exchange))
    monkeypatch.setattr(file_replacing, "rename_to_new", named("rename", rename_to_new))
    monkeypatch.setattr(os, "unlink", named("unlink", os.unlink))
    monkeypatch.setattr(os, "replace", named("replace", os.replace))
    return seen


def test_a_file_is_on_the_disk_before_it_is_in_its_place_and_its_place_before_the_old_one_goes(home, order):
    version = expected(home)
    stage(home, b"newer")
    home.swap("folder/x", TEMPORARY, version)
    home.discard("folder/x", TEMPORARY)
    written = order.index("fsync of 5 bytes")
    assert order[written:] == ["fsync of 5 bytes", "exchange", "fsync of the folder", "unlink", "fsync of the folder"]


def test_a_file_that_was_not_there_too(home, order):
    home.stage(Stage("folder/y", TEMPORARY, b"newer", 0o600, os.getegid(), None))
    home.swap("folder/y", TEMPORARY, None)
    assert order[order.index("fsync of 5 bytes") :] == ["fsync of 5 bytes", "rename", "fsync of the folder"]


def test_a_file_that_goes_is_gone_from_the_disk(home, order):
    home.withdraw("folder/x", TEMPORARY, expected(home))
    assert order == ["rename", "unlink", "fsync of the folder"]


def test_a_journal_is_on_the_disk_before_it_is_in_its_place(home, folder, order):
    replace_file(folder / "j.json", b"12345678")
    assert order == ["fsync of 8 bytes", "replace", "fsync of the folder"]


def test_what_a_killed_replacement_left_is_swept_and_nothing_else(home, folder):
    for name in (".j.json.abcdefgh", ".k.json.abcdefgh", ".j.json.abc", "j.json", ".j.json.abcdefghi"):
        (folder / name).touch()
    sweep(folder, "j.json")
    left = {path.name for path in folder.iterdir()}
    assert left == {"x", ".k.json.abcdefgh", ".j.json.abc", "j.json", ".j.json.abcdefghi"}
    sweep(folder, "*.json")
    assert ".k.json.abcdefgh" not in {path.name for path in folder.iterdir()}
