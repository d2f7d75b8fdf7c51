"""Files and homes as people have them, on real file systems: handled, or refused before anything is touched (root)."""

import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent_broker.errors import AgentBrokerError, MisuseError
from tests.fakes.enroll_cases import CASES
from tests.fakes.enroll_world import API_KEY, GID, SETTINGS, UID, URL
from tests.fakes.file_systems import FileSystem
from tests.fakes.transaction_world import TransactionWorld

CASE = CASES["claude, API key in the settings"]
TWO_GIB = 2 << 30
# version 2; user:: rw-, user:7 r--, group:: r--, mask r--, other ---: linux/posix_acl_xattr.h
ENTRIES = ((1, 6, 0xFFFFFFFF), (2, 4, 7), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
ACL = b"\x02\0\0\0" + b"".join(
    tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little") for tag, bits, who in ENTRIES
)


@pytest.fixture
def world():
    world = TransactionWorld(CASE)
    yield world
    world.close()


@pytest.fixture
def open_folder():
    """The user can reach it, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="odd-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["ext4", "tmpfs", "overlay"])
def disk(request, open_folder):
    made = FileSystem(request.param, open_folder)
    yield made
    made.close()


@pytest.fixture
def on_ext4(open_folder):
    disk = FileSystem("ext4", open_folder)
    world = TransactionWorld(CASE, at=disk.at)
    yield world
    for path in (world.settings, world.claude):
        subprocess.run(["chattr", "-ia", path], check=False)
    world.close()
    disk.close()


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def assert_refused(world, says):
    """In the plan already, with what to do; and nothing was touched, root's folders not even made."""
    before = world.snapshot()
    with pytest.raises(AgentBrokerError, match=says) as caught:
        world.plan()
    assert caught.value.next_step
    assert API_KEY not in caught.value.explain()
    assert world.snapshot() == before
    assert not (world.state / "enroll").exists()
    assert world.store.vault.list() == ()


def assert_there_and_back(world):
    before = world.snapshot()
    worn = {path: attributes(world.home / path) for path in before}
    assert world.enroll().summary == "enrolled"
    assert {frozenset(places) for places in world.places().values()} == {frozenset({"vault"})}
    for path, facts in world.snapshot().items():
        if path in before:
            assert (facts.mode, facts.uid, facts.gid) == (before[path].mode, before[path].uid, before[path].gid)
            assert attributes(world.home / path) == worn[path]
    world.unenroll()
    assert world.snapshot() == before  # content, mode, owner, times to the nanosecond
    assert {path: attributes(world.home / path) for path in before} == worn


def test_everything_a_file_can_carry_on_every_file_system(disk):
    world = TransactionWorld(CASE, at=disk.at)
    try:
        os.setxattr(world.settings, "user.note", b"mine")
        os.setxattr(world.settings, "system.posix_acl_access", ACL)
        os.utime(world.settings, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
        world.settings.chmod(0o440)
        assert_there_and_back(world)
    finally:
        world.close()


def test_a_deleted_file_comes_back_with_all_that_it_carried(world):
    os.setxattr(world.settings, "user.note", b"mine")
    os.setxattr(world.settings, "system.posix_acl_access", ACL)
    os.utime(world.settings, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    before, worn = world.snapshot(), attributes(world.settings)
    world.enroll()
    assert b"mine" not in (world.state / "enroll/claude-61234.json").read_bytes()
    shutil.rmtree(world.claude)
    world.unenroll()
    assert world.snapshot() == before
    assert attributes(world.settings) == worn
    assert (world.claude.stat().st_uid, stat.S_IMODE(world.claude.stat().st_mode)) == (UID, 0o700)


def test_an_attribute_that_only_root_can_give_is_found_out_in_the_plan(on_ext4):
    os.setxattr(on_ext4.settings, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    assert_refused(on_ext4, "security.capability")


def test_an_attribute_that_only_root_can_see_is_not_the_users_to_lose(on_ext4):
    os.setxattr(on_ext4.settings, "trusted.note", b"root's")
    assert on_ext4.enroll().summary == "enrolled"


@pytest.mark.parametrize("flag", ["+i", "+a"])
@pytest.mark.parametrize("place", ["settings", "claude"])
def test_chattr(on_ext4, flag, place):
    path = getattr(on_ext4, place)
    subprocess.run(["chattr", flag, path], check=True)
    assert_refused(on_ext4, "immutable or append-only")
    subprocess.run(["chattr", flag.replace("+", "-"), path], check=True)
    assert_there_and_back(on_ext4)


@pytest.mark.parametrize("place", ["settings", "claude"])
def test_chattr_while_enrolled_is_found_out_before_anything_is_put_back(on_ext4, place):
    on_ext4.enroll()
    enrolled, path = on_ext4.snapshot(), getattr(on_ext4, place)
    subprocess.run(["chattr", "+i", path], check=True)
    with pytest.raises(MisuseError, match="immutable"):
        on_ext4.unenroll()
    assert on_ext4.snapshot() == enrolled
    assert on_ext4.journal_state() == "enrolled"
    assert len(on_ext4.registered()) == 1
    subprocess.run(["chattr", "-i", path], check=True)
    on_ext4.unenroll()
    assert on_ext4.snapshot() == on_ext4.before


def test_a_home_that_is_mounted_read_only(on_ext4):
    mount = on_ext4.root.parent
    subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
    try:
        with pytest.raises(MisuseError, match="read-only") as caught:
            on_ext4.plan()
        assert "mount" in caught.value.next_step
    finally:
        subprocess.run(["mount", "-o", "remount,bind,rw", mount], check=True)


def test_a_read_only_file(world):
    world.settings.chmod(0o400)
    assert_there_and_back(world)


def bind(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (bind, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 250)), "not a regular file"),
        (lambda path: path.symlink_to("/proc/self/root/etc/shadow"), "symbolic link"),
    ],
)
def test_what_is_no_file(world, spoil, says):
    world.settings.unlink()
    spoil(world.settings)
    os.chown(world.settings, UID, GID, follow_symlinks=False)
    assert_refused(world, says)


def test_a_file_of_two_gibibytes(world):
    os.truncate(world.settings, TWO_GIB)
    with pytest.raises(MisuseError, match="too big"):
        world.plan()
    os.truncate(world.settings, len(SETTINGS.encode()))


def test_a_file_of_two_gibibytes_beside_them_is_not_read_and_said_so(world):
    movie = world.home / "movie"
    movie.touch()
    os.truncate(movie, TWO_GIB)
    os.utime(movie, ns=(1, 1))
    report = world.enroll()
    assert any("not searched: too big" in warning for warning in report.warnings)
    assert movie.stat().st_atime_ns == 1


def stow(world, *options):
    """GNU stow: one link for the whole folder, or, not folding, a link a file."""
    package = world.make_folder(world.make_folder(world.home / "dotfiles") / "claude")
    world.claude.rename(package / ".claude")
    command = ["stow", "--dir", world.home / "dotfiles", "--target", world.home, *options, "claude"]
    subprocess.run(command, user=UID, group=GID, extra_groups=[], cwd=world.home, env={"PATH": "/usr/bin"}, check=True)


def stow_files(world):
    stow(world, "--no-folding")


@pytest.mark.parametrize("manage", [stow, stow_files])
def test_links_of_a_dotfile_manager_are_refused_and_stay(world, manage):
    manage(world)
    link = world.claude if manage is stow else world.settings
    assert link.is_symlink()
    assert_refused(world, "symbolic link")
    assert link.is_symlink()
    assert (world.home / "dotfiles/claude/.claude/settings.json").read_text() == SETTINGS


def test_a_copy_in_the_source_of_a_dotfile_manager_is_reported(world):
    """chezmoi copies: the files are enrolled, and the key in its source state is named."""
    source = world.home
    for name in (".local", "share", "chezmoi", "dot_claude"):
        source = world.make_folder(source / name)
    world.make(source / "private_settings.json", SETTINGS)
    report = world.enroll()
    assert any(
        "private_settings.json still holds a moved secret" in warning and str(source) in warning
        for warning in report.warnings
    )
    world.unenroll()
    assert (source / "private_settings.json").read_text() == SETTINGS


def test_a_home_that_a_link_leads_to(world):
    """As with /home -> /data/home: the operator's own link, resolved once."""
    link = world.root / "link"
    link.symlink_to(world.home)
    moved, world.home = world.home, link
    assert world.owner.home == str(moved)
    assert_there_and_back(world)
    world.home = moved


PLAIN = SETTINGS.replace("   // mine", "")
TEXTS = {
    "CRLF": SETTINGS.replace("\n", "\r\n"),
    "no newline at the end": SETTINGS.rstrip("\n"),
    "many newlines at the end": SETTINGS + "\n\n\n",
    "one line": json.dumps(json.loads(PLAIN), separators=(",", ":")),
    "tabs": PLAIN.replace("  ", "\t"),
    "comments": PLAIN.replace('"vi",', '"vi", /* é */').replace('"less"', '"less" // last'),
    "a byte order mark": "\ufeff" + SETTINGS,
    "escapes": PLAIN.replace('"vi"', '"\\u0076\\ud83d\\ude00"'),
    "old Mac line ends": PLAIN.replace("\n", "\r"),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_that_are_edited_and_come_back_to_the_byte(world, text):
    world.make(world.settings, text.encode())
    world.before = world.snapshot()
    assert_there_and_back(world)


def test_line_ends_of_the_file_are_used_for_what_is_added(world):
    world.make(world.settings, TEXTS["CRLF"].encode())
    world.enroll()
    data = world.settings.read_bytes()
    assert URL.encode() in data
    assert data.count(b"\n") == data.count(b"\r\n")


BROKEN = {
    "the same key twice": (SETTINGS.replace('"PAGER"', '"EDITOR"').encode(), "same key twice"),
    "the same key twice, escaped": (SETTINGS.replace('"PAGER"', '"\\u0045DITOR"').encode(), "same key twice"),
    "invalid UTF-8": (SETTINGS.replace("opus", "\xff").encode("latin-1"), "UTF-8"),
    "cut off": (SETTINGS.encode()[:-20], "not JSON"),
    "a comma too many": (PLAIN.replace('"less"', '"less",').encode(), "not JSON"),
    "UTF-16": (SETTINGS.encode("utf-16"), "UTF-8|not JSON"),
    "nested without end": (b"[" * 200_000, "not JSON|deep|not an object"),
    "empty": (b"", "not JSON|empty"),
}


@pytest.mark.parametrize(("data", "says"), BROKEN.values(), ids=BROKEN)
def test_texts_that_are_refused(world, data, says):
    world.make(world.settings, data)
    assert_refused(world, says)


def test_a_second_name_and_another_owner(world):
    os.link(world.settings, world.home / "second")
    assert_refused(world, "second name")
    (world.home / "second").unlink()
    os.chown(world.settings, 0, 0)
    assert_refused(world, "belongs to another user")
