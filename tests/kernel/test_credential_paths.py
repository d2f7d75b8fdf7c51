"""Credential paths on the running kernel: files are marked where and when they appear, and stay so."""

import os
import subprocess
from ctypes import CDLL, get_errno
from pathlib import Path

import msgspec
import pytest

from agent_broker.monitor import watch
from agent_broker.monitor.catalogue import Catalogue, Entry
from tests.fakes.credential_paths import CredentialPaths

LIBC = CDLL(None, use_errno=True)
MNT_DETACH = 2  # umount(2)

pytestmark = pytest.mark.kernel


@pytest.fixture
async def paths():
    paths = CredentialPaths()
    yield paths
    await paths.close()


def opening(path):
    return f"os.close(os.open({str(path)!r}, os.O_RDONLY))"


APPEARANCES = {
    "created": "os.close(os.open({path!r}, os.O_WRONLY | os.O_CREAT, 0o600))",
    "renamed into place": "[os.close(os.open({new!r}, os.O_CREAT, 0o600)), os.rename({new!r}, {path!r})]",
    "linked into place": "[os.close(os.open({new!r}, os.O_CREAT, 0o600)), os.link({new!r}, {path!r})]",
}
PLACES = [".ssh/id_new", ".netrc", ".config/gcloud/legacy_credentials/ann/adc.json"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", APPEARANCES.values(), ids=APPEARANCES.keys())
async def test_a_file_that_appears_is_watched(paths, way, place):
    path = paths.home / place
    paths.start()
    puppet = await paths.puppet()

    await puppet.do(f"os.makedirs({str(path.parent)!r}, exist_ok=True)")
    await paths.settled()
    await puppet.do(f"{way.format(path=str(path), new=str(paths.home / 'new'))} and None")
    await paths.settled(lambda: place in paths.marked())
    await puppet.do(opening(path))

    (incident,) = await paths.all_told()
    assert incident.path == str(path)


async def test_a_home_that_is_restored_from_a_backup_is_watched(paths):
    backup = paths.new_folder(paths.folder / "backup")
    for each in (".aws/credentials", ".ssh/id_rsa", ".docker/config.json"):
        (backup / each).parent.mkdir()
        (backup / each).write_text("secret")
    paths.start()
    assert paths.marked() == set()

    subprocess.run(["cp", "-a", f"{backup}/.", str(paths.home)], check=True)
    await paths.settled(lambda: len(paths.marked()) == 3)
    (paths.home / ".aws/credentials").chmod(0o644)
    puppet = await paths.puppet()
    await puppet.do(opening(paths.home / ".aws/credentials"))

    told = await paths.all_told()
    assert told[-1].path == str(paths.home / ".aws/credentials")


async def test_a_rename_over_a_mark_is_watched(paths):
    token = paths.new_file(".npmrc")
    fresh = paths.new_file(".npmrc.new")
    paths.start()
    puppet = await paths.puppet()

    await puppet.do(f"os.rename({str(fresh)!r}, {str(token)!r})")
    await paths.settled()
    await puppet.do(opening(token))

    (incident,) = await paths.all_told()
    assert (incident.kind, incident.path) == ("credential-opened", str(token))


async def test_a_file_that_is_deleted_and_made_again_is_watched(paths):
    token = paths.new_file(".pypirc")
    paths.start()
    puppet = await paths.puppet()

    await puppet.do(f"os.unlink({str(token)!r})")
    await paths.settled(lambda: ".pypirc" not in paths.marked())
    await puppet.do(f"os.close(os.open({str(token)!r}, os.O_WRONLY | os.O_CREAT, 0o600))")
    await paths.settled(lambda: ".pypirc" in paths.marked())
    await puppet.do(opening(token))

    (incident,) = await paths.all_told()
    assert incident.path == str(token)


async def test_a_file_that_is_moved_away_keeps_telling(paths):
    token = paths.new_file(".pypirc")
    paths.start()
    puppet = await paths.puppet()

    await puppet.do(f"os.rename({str(token)!r}, {str(paths.home / 'harmless')!r})")
    await paths.settled(lambda: ".pypirc" not in paths.marked())
    await puppet.do(opening(paths.home / "harmless"))

    (incident,) = await paths.all_told()
    assert incident.path == str(token)
    assert f"as {paths.home}/harmless" in incident.what


async def test_a_folder_that_is_replaced_is_watched(paths):
    paths.new_file(".ssh/id_rsa")
    paths.new_file("other/id_ecdsa")
    paths.start()
    puppet = await paths.puppet()
    ssh, other = paths.home / ".ssh", paths.home / "other"

    await puppet.do(f"os.rename({str(ssh)!r}, {str(paths.home / 'gone')!r})")
    await puppet.do(f"os.rename({str(other)!r}, {str(ssh)!r})")
    await paths.settled(lambda: paths.marked() == {".ssh/id_ecdsa"})
    await puppet.do(opening(ssh / "id_ecdsa"))
    await puppet.do(opening(paths.home / "gone" / "id_rsa"))

    (told,) = await paths.all_told()
    assert [Path(each).name for each in (told.path, *told.paths)] == ["id_ecdsa", "id_rsa"]


async def test_a_hard_link_and_a_bind_mount_are_the_same_file(paths):
    token = paths.new_file(".vault-token")
    mounted = paths.new_file("mounted")
    paths.start()
    puppet = await paths.puppet()
    link = paths.home / "link"

    await puppet.do(f"os.link({str(token)!r}, {str(link)!r})")
    await puppet.do(opening(link))
    subprocess.run(["mount", "--bind", token, mounted], check=True)
    try:
        second = await paths.puppet()
        await second.do(opening(mounted))
        await paths.settled(lambda: len(paths.told) == 2)
    finally:
        subprocess.run(["umount", mounted], check=True)

    assert [each.path for each in await paths.all_told()] == [str(token)] * 2


@pytest.mark.parametrize("layers", ["on one file system", "on two file systems"])
async def test_an_overlay_copy_up_keeps_being_watched(paths, layers):
    base = paths.new_folder(paths.folder / "base")
    two = layers == "on two file systems"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "x", base], check=True)
    home = paths.home
    try:
        lower = base / "lower" if not two else paths.new_folder(paths.folder / "lower")
        for each in (lower, base / "upper", base / "work"):
            paths.new_folder(each)
        token = paths.new_file(lower / ".netrc")
        options = f"lowerdir={lower},upperdir={base / 'upper'},workdir={base / 'work'},xino=off"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", home], check=True)
        try:
            paths.start()
            puppet = await paths.puppet()
            await puppet.do(f"os.close(os.open({str(home / '.netrc')!r}, os.O_WRONLY | os.O_APPEND))")
            assert (base / "upper" / token.name).exists()  # it was copied up
            second = await paths.puppet()
            await second.do(opening(home / ".netrc"))
            third = await paths.puppet()
            await third.do(opening(home / ".netrc"))
            told = await paths.all_told()
        finally:
            subprocess.run(["umount", home], check=True)
    finally:
        subprocess.run(["umount", base], check=True)

    assert [each.path for each in told] == [str(home / ".netrc")] * 3


async def test_patterns_of_the_operator(paths):
    mine = paths.new_file("secrets/a.key")
    paths.new_file("secrets/b.key")
    paths.new_file(".netrc")
    paths.new_file(".pgpass")

    paths.start(extra=("~/secrets/*.key",), ignore=("~/.netrc", "~/secrets/b*"))

    assert paths.marked() == {str(mine.relative_to(paths.home)), ".pgpass"}


async def test_names_that_are_not_text_are_watched_and_told(paths):
    paths.new_folder(paths.home / ".ssh")
    paths.start()
    puppet = await paths.puppet()
    name = os.fsencode(paths.home / ".ssh") + b"/id_\xff\n\x1b[2J"

    await puppet.do(f"os.close(os.open({name!r}, os.O_WRONLY | os.O_CREAT, 0o600))")
    await paths.settled(lambda: len(paths.watch.marked) == 1)
    await puppet.do(f"os.close(os.open({name!r}, os.O_RDONLY))")

    (incident,) = await paths.all_told()
    assert msgspec.json.decode(msgspec.json.encode(incident))["path"] == f"{paths.home}/.ssh/id_\\udcff\n\x1b[2J"
    assert "\x1b" not in incident.what


async def test_a_link_on_the_way_is_not_followed_and_is_named(paths):
    victim = paths.new_file("victim/credentials")
    (paths.home / ".aws").symlink_to(victim.parent)

    problems = paths.start()

    assert problems == (f"{paths.home}/.aws is a symbolic link and not followed: name its target in [paths] extra",)
    assert paths.marked() == set()


async def test_a_file_system_that_never_answers_does_not_hold_up_the_monitor(paths):
    """FUSE, whose daemon is this test: it reads no request. A folder of it would be waited for without end."""
    folder = paths.new_folder(paths.home / ".config" / "gcloud")
    token = paths.new_file(".netrc")
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
    assert LIBC.mount(b"silent", os.fsencode(folder), b"fuse", 0, options.encode()) == 0, os.strerror(get_errno())
    try:
        problems = paths.start()
        await paths.run("cat", str(token))
        told = await paths.all_told()
    finally:
        os.close(fuse)
        LIBC.umount2(os.fsencode(folder), MNT_DETACH)

    assert problems == (f"{folder} is not watched: gcloud is a file system that a user answers for",)
    assert [each.path for each in told] == [str(token)]


async def test_a_home_that_is_mounted_right_after_another_one_is_watched(paths):
    first, second = (paths.new_folder(paths.home / name) for name in (".aws", ".kube"))
    paths.start()
    try:
        for folder, name in ((first, "credentials"), (second, "config")):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "x", folder], check=True)
            (folder / name).write_text("secret")
            await paths.settled()
        await paths.settled(lambda: len(paths.marked()) == 2)
    finally:
        subprocess.run(["umount", first, second], check=True)


async def test_a_look_at_everything_that_is_due_while_another_one_rests_is_made_up_for(paths, monkeypatch):
    looks = []
    monkeypatch.setattr(watch, "survey", lambda _root, _findings, way: looks.append(way))
    monkeypatch.setattr(watch.MountWatch, "_settled", lambda _self: None)  # others mount things meanwhile
    paths.start()
    looks.clear()

    for _ in range(5):
        paths.watch.look_everywhere()
    assert looks == ["/"]
    await paths.settled(lambda: len(looks) > 1)

    assert looks == ["/", "/"]


async def test_a_flood_of_matching_names_is_bounded_and_leaves_the_plain_paths_watched(paths, monkeypatch):
    monkeypatch.setattr("agent_broker.monitor.watch.MAX_FOUND", 10)
    for number in range(20):
        paths.new_file(f".ssh/id_{number}")
    token = paths.new_file(".vault-token")
    problems = paths.start()

    assert len(paths.marked()) == 11
    assert ".vault-token" in paths.marked()
    assert problems[0].startswith("only 10 files are marked: ")
    await paths.run("cat", str(token))
    assert [each.path for each in await paths.all_told()] == [str(token)]


async def test_nothing_is_kept_of_files_that_come_and_go(paths):
    paths.new_folder(paths.home / ".config" / "gcloud")
    paths.start()
    puppet = await paths.puppet()
    folder = paths.home / ".config" / "gcloud" / "new"
    watched = len(paths.watch._paths._keys)

    for _ in range(5):
        await puppet.do(f"os.mkdir({str(folder)!r})")
        await puppet.do(f"os.close(os.open({str(folder / 'key')!r}, os.O_CREAT, 0o600))")
        await paths.settled(lambda: len(paths.watch.marked) == 1)
        await puppet.do(f"os.unlink({str(folder / 'key')!r})")
        await puppet.do(f"os.rmdir({str(folder)!r})")
        await paths.settled(lambda: not paths.watch.marked)
        await paths.settled(lambda: len(paths.watch._paths._keys) == watched)

    assert paths.watch._listener._inodes == {}
    assert paths.watch._above == {}
    assert len(paths.watch._paths._folders) == watched


async def test_a_way_that_is_made_step_by_step_is_watched_at_every_step(paths):
    catalogue = Catalogue({}, (Entry("~/a/b/c", "token"),))
    paths.start(catalogue=catalogue)
    puppet = await paths.puppet()

    for folder in (paths.home / "a", paths.home / "a/b"):
        await puppet.do(f"os.mkdir({str(folder)!r})")
        await paths.settled()
    await puppet.do(f"os.close(os.open({str(paths.home / 'a/b/c')!r}, os.O_CREAT, 0o600))")
    await paths.settled(lambda: paths.marked() == {"a/b/c"})
    await puppet.do(opening(paths.home / "a/b/c"))

    (incident,) = await paths.all_told()
    assert incident.holds == "token"
