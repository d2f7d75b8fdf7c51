"""Programs at credential paths as the kernel side records them: packages' files, scripts, copies, namespaces."""

import os
import shutil

import pytest

from agent_broker.identity.attest import Attestor
from agent_broker.identity.environment import scan_strings
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.catalogue import Catalogue, Entry, ProgramSpec
from tests.fakes.credential_paths import USER, CredentialPaths

pytestmark = pytest.mark.kernel

READER = "import sys\nprint(open(sys.argv[-1]).read())\n"


@pytest.fixture
async def paths():
    paths = CredentialPaths()
    store = Store(scan_strings, str)
    sensor = CoreSensor(store.apply)
    store.link_seeded()
    paths.facts_of = lambda fd: sensor.own_file(fd).file
    paths.attestor = Attestor(epoch="e1", tier="observe+", sensor=sensor, store=store, hashes=paths.hashes)
    yield paths
    await paths.close()
    sensor.close()


@pytest.fixture
def script(paths):
    """A script of a package, which a package's Python runs."""
    script = paths.folder / "tool"
    script.write_text(f"#!/usr/bin/python3\n{READER}")
    script.chmod(0o755)
    paths.distribution.more[str(script)] = "tool"
    return script


def with_script(script):
    tool = ProgramSpec(("tool",), scripts=(str(script),))
    return Catalogue({"tool": tool}, (Entry("~/.token", "token", ("tool",)),))


async def test_the_catalogue_s_program_passes_and_others_are_told_with_their_lineage(paths):
    token = paths.new_file(".git-credentials", "[x]\ny = read\n")
    paths.start()

    assert await paths.run("git", "config", "--file", str(token), "x.y") == "read\n"
    await paths.run("cat", str(token))

    (incident,) = await paths.all_told()
    assert (incident.severity, incident.path) == ("warning", str(token))
    assert incident.lineage[0].image.filename == "/usr/bin/cat"
    assert len(incident.lineage) > 1


async def test_a_copy_a_link_and_a_wrapped_program_are_told(paths):
    token = paths.new_file(".git-credentials")
    paths.start()
    copy = paths.folder / "git"
    shutil.copy("/usr/bin/git", copy)

    await paths.run(str(copy), "config", "--file", str(token), "x.y")
    await paths.run("/lib64/ld-linux-x86-64.so.2", "/usr/bin/git", "config", "--file", str(token), "x.y")

    told = await paths.all_told()
    assert {each.lineage[0].image.filename for each in told} == {str(copy), "/lib64/ld-linux-x86-64.so.2"}


async def test_a_package_s_script_passes(paths, script):
    token = paths.new_file(".token")
    paths.start(catalogue=with_script(script))

    assert await paths.run(str(script), str(token)) == "secret\n"
    assert await paths.run("python3", str(script), str(token)) == "secret\n"

    assert await paths.all_told() == []


async def test_what_only_looks_like_the_script_is_told(paths, script):
    token = paths.new_file(".token")
    paths.start(catalogue=with_script(script))

    for argv in (
        ["python3", "-c", READER, str(script), str(token)],
        ["python3", "-i", str(script), str(token)],
        ["python3", "tool", str(token)],
    ):
        assert "secret" in await paths.run(*argv, cwd=str(paths.folder))

    assert len(await paths.all_told()) == 3


async def test_a_script_in_another_mount_namespace_is_told(paths, script):
    token = paths.new_file(".token")
    evil = paths.folder / "evil"
    evil.write_text(f"#!/usr/bin/python3\n{READER}")
    evil.chmod(0o755)
    paths.start(catalogue=with_script(script))
    mounting = f"mount --bind {evil} {script} && exec {script} {token}"

    assert "secret" in await paths.run("unshare", "-m", "sh", "-c", mounting, uid=0)

    (incident,) = await paths.all_told()
    assert incident.severity == "info"  # root did it here


async def test_another_program_at_the_same_path_in_another_mount_namespace_is_told(paths):
    token = paths.new_file(".git-credentials", "secret")
    paths.start()
    mounting = f"mount --bind /usr/bin/cat /usr/bin/git && exec git {token}"

    assert "secret" in await paths.run("unshare", "-m", "sh", "-c", mounting, uid=0)

    (incident,) = await paths.all_told()
    assert "/git" in incident.what


async def test_a_path_of_another_mount_namespace_is_not_remembered_against_a_program(paths):
    token = paths.new_file(".git-credentials", "[x]\ny = read\n")
    paths.start()
    elsewhere = paths.new_folder(paths.folder / "elsewhere")
    mounting = f"mount --bind /usr/bin {elsewhere} && exec {elsewhere}/git config --file {token} x.y"

    assert "read" in await paths.run("unshare", "-m", "sh", "-c", mounting, uid=0)
    await paths.settled()
    assert "read" in await paths.run("git", "config", "--file", str(token), "x.y")

    assert len(await paths.all_told()) == 1


async def test_a_package_s_file_that_its_user_can_change_is_nobody_s(paths):
    token = paths.new_file(".token", "secret")
    git = ProgramSpec(("git",), (f"{paths.folder}/*/git",))
    paths.start(catalogue=Catalogue({"git": git}, (Entry("~/.token", "token", ("git",)),)))
    copies = []
    for name in ("users", "writable", "roots"):
        copies.append(paths.folder / name / "git")
        copies[-1].parent.mkdir()
        shutil.copy("/usr/bin/git", copies[-1])
        paths.distribution.more[str(copies[-1])] = "git"
    os.chown(copies[0], USER, USER)
    copies[1].chmod(0o775)

    for each in copies:
        await paths.run(str(each), "config", "--file", str(token), "x.y")

    told = await paths.all_told()
    assert {each.lineage[0].image.filename for each in told} == {str(copies[0]), str(copies[1])}


async def test_a_changed_script_is_told(paths, script):
    token = paths.new_file(".token")
    paths.distribution.tampered.add(str(script))
    paths.start(catalogue=with_script(script))

    await paths.run(str(script), str(token))

    (incident,) = await paths.all_told()
    assert "python3" in incident.what or "tool" in incident.what


async def test_a_shell_reads_its_history_and_others_are_told(paths):
    history = paths.new_file(".bash_history", "ls\n")
    paths.start()

    said = await paths.run("bash", "--norc", "-c", f"history -r {history}; history")
    await paths.run("cat", str(history))

    assert "ls" in said
    (incident,) = await paths.all_told()
    assert incident.lineage[0].image.filename == "/usr/bin/cat"
