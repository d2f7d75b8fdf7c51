"""A script's whole package beside its tarballs: any change is told, and what npm left is not called one."""

import gzip
import io
import os
import shutil
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_broker.enroll import npm_evidence, npm_tarball
from agent_broker.enroll.vendor import AGREES, DISAGREES, NONE, deviations, vendor_of_script
from tests.fakes.npm_install import Npm, enrolled, integrity, tarball, whole

NAME = "@vendor/cli"
FILES = {
    "bin/cli.js": b"#!/usr/bin/env node\nrequire('dep')\n",
    "lib/a.js": b"a",
    "lib/empty": b"",
    "node_modules/bundled/package.json": b'{"name": "bundled", "version": "1.0.0"}',
    "node_modules/bundled/main.js": b"bundled",
}
DEP = {"index.js": b"dep"}
ASKS = {"dependencies": {"dep": "^1.0.0", "bundled": "1.0.0"}, "bundleDependencies": ["bundled"]}


class World:
    def __init__(self, folder):
        self.npm = Npm(folder)
        self.tarball = self.npm.publish(NAME, "2.0.0", FILES, **ASKS)
        self.root = self.npm.install(NAME, "2.0.0", FILES, **ASKS)
        self.npm.publish("dep", "1.2.3", DEP)
        self.dep = self.npm.install("dep", "1.2.3", DEP, inside=NAME)
        self.path = folder / "path"
        self.path.mkdir()
        shutil.copy("/bin/true", self.path / "node")

    def vendor(self, *caches):
        script = enrolled(self.root / "bin/cli.js", self.path).script
        return vendor_of_script(script, caches or (self.npm.cache,))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def told(found):
    return {kind: sorted(paths) for kind, paths in deviations(found.comparison)}


def test_a_package_as_npm_left_it_agrees_with_all_that_it_brings_and_all_that_lies_in_it(world):
    found = world.vendor()

    assert (found.version, found.evidence, told(found)) == ("2.0.0", AGREES, {})
    assert found.comparison.compared == [f"{NAME} 2.0.0", "dep 1.2.3"]
    assert found.what.startswith("8 of 8 files are those in the tarballs that npm noted; packages: @vendor/cli 2.0.0, ")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_that_is_changed_added_or_cut_off_and_any_file_that_comes_or_goes_is_told(tmp_path_factory, data):
    world = World(tmp_path_factory.mktemp("world"))
    there = sorted(path for path in world.root.rglob("*") if path.is_file())
    script, manifest = world.root / "bin/cli.js", world.root / "package.json"  # without them it is no program at all
    victim = data.draw(st.sampled_from([path for path in there if path not in (script, manifest)]))
    content = victim.read_bytes()
    deed = data.draw(st.sampled_from(["byte", "longer", "shorter", "removed", "added", "link"]))
    name = os.fsencode(str(victim.relative_to(world.root)))
    kind = "differing"
    if deed == "byte" and content:
        at = data.draw(st.integers(0, len(content) - 1))
        victim.write_bytes(content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :])
    elif deed == "shorter" and content:
        victim.write_bytes(content[:-1])
    elif deed == "removed":
        victim.unlink()
        kind = "missing"
    elif deed in {"added", "link"}:
        kind, name = "in no tarball", name + b".added"
        new = world.root / os.fsdecode(name)
        new.symlink_to(victim) if deed == "link" else new.write_bytes(b"")
    else:
        victim.write_bytes(content + b"x")
    if victim.name == "package.json" and victim.parent == world.dep and kind != "in no tarball":
        assert world.vendor().evidence != AGREES  # it says which package that is
        return

    found = world.vendor()
    assert found.evidence == DISAGREES
    assert told(found) == {kind: [name]}


@pytest.mark.parametrize("name", ["bin/cli.js", "package.json"])
def test_the_script_itself_and_its_manifest_are_compared_too(world, name):
    with (world.root / name).open("ab") as file:
        file.write(b"\n")

    found = world.vendor()
    assert (found.evidence, told(found)) == (DISAGREES, {"differing": [name.encode()]})


def test_a_link_to_the_very_same_bytes_differs(world):
    (world.root / "lib/empty").rename(world.path / "elsewhere")
    (world.root / "lib/empty").symlink_to(world.path / "elsewhere")

    assert told(world.vendor()) == {"differing": [b"lib/empty"]}


def test_what_npm_makes_itself_is_told_as_that(world):
    links = world.root / "node_modules/.bin"
    links.mkdir()
    (links / "dep").symlink_to("../dep/index.js")
    (world.root / "node_modules/.package-lock.json").write_text("{}")

    found = world.vendor()
    assert (found.evidence, told(found), len(found.comparison.made_by_npm)) == (AGREES, {}, 2)
    assert found.what.endswith("made by npm itself: 2")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../outside.js", "../dep/none.js"])
def test_a_link_among_npms_own_that_leads_to_no_file_of_the_tree_is_told(world, target):
    links = world.root / "node_modules/.bin"
    links.mkdir()
    (links / "dep").symlink_to(target)

    assert told(world.vendor()) == {"in no tarball": [b"node_modules/.bin/dep"]}


def test_what_an_install_script_may_have_made_is_neither_agreed_with_nor_called_a_forgery(world):
    scripts = {"scripts": {"postinstall": "node-gyp rebuild"}}
    world.npm.publish("dep", "1.2.4", DEP, **scripts)
    shutil.rmtree(world.dep)
    world.npm.install("dep", "1.2.4", DEP, inside=NAME, **scripts)
    (world.dep / "build").mkdir()
    (world.dep / "build/dep.node").write_bytes(b"compiled")

    found = world.vendor()
    assert found.evidence == NONE
    kind = "in no tarball, and perhaps made by a script that ran at installation"
    assert told(found) == {kind: [b"node_modules/dep/build/dep.node"]}


def test_a_manifest_on_the_disk_that_claims_an_install_script_excuses_nothing(world):
    world.npm.install("dep", "1.2.3", DEP, inside=NAME, scripts={"postinstall": "true"})
    (world.dep / "extra.js").write_bytes(b"evil")

    found = world.vendor()
    assert found.evidence == DISAGREES
    assert told(found) == {
        "differing": [b"node_modules/dep/package.json"], "in no tarball": [b"node_modules/dep/extra.js"],
    }  # fmt: skip


def test_a_package_without_a_tarball_is_said_not_to_be_compared(world):
    shutil.rmtree(world.dep)
    world.npm.install("dep", "9.9.9", {"index.js": b"evil"}, inside=NAME)

    found = world.vendor()
    assert found.evidence == NONE
    assert told(found) == {"not compared": [b"node_modules/dep/index.js", b"node_modules/dep/package.json"]}
    assert "dep 9.9.9: npm noted no integrity of it" in found.what


def test_a_package_that_nobody_asks_for_is_told_though_it_is_genuine(world):
    world.npm.publish("other", "1.0.0", DEP)
    world.npm.install("other", "1.0.0", DEP, inside=NAME)

    found = world.vendor()
    assert found.evidence == DISAGREES
    assert [paths for _, paths in deviations(found.comparison)] == [[b"node_modules/other"]]


def test_a_genuine_package_in_another_ones_folder_is_told(world):
    world.npm.publish("other", "1.0.0", DEP)
    shutil.rmtree(world.dep)
    world.npm.install("other", "1.0.0", DEP, inside=NAME).rename(world.dep)

    found = world.vendor()
    assert found.evidence == DISAGREES
    assert [paths for _, paths in deviations(found.comparison)] == [[b"node_modules/dep"]]


def test_an_alias_that_the_vendor_gave_is_none_of_that(world):
    asks = {"dependencies": {**ASKS["dependencies"], "dep": "npm:other@1.0.0"}, "bundleDependencies": ["bundled"]}
    world.npm.publish(NAME, "2.0.1", FILES, **asks)
    world.npm.install(NAME, "2.0.1", FILES, **asks)
    world.npm.publish("other", "1.0.0", DEP)
    shutil.rmtree(world.dep)
    world.npm.install("other", "1.0.0", DEP, inside=NAME).rename(world.dep)

    found = world.vendor()
    assert (found.evidence, told(found)) == (AGREES, {})


def test_a_set_user_id_file_of_the_right_bytes_differs(world):
    (world.root / "lib/a.js").chmod(0o4755)

    assert told(world.vendor()) == {"differing": [b"lib/a.js"]}


def test_caches_that_say_different_things_are_a_contradiction(world, tmp_path):
    other = Npm(tmp_path / "other")
    other.keep(tarball(whole(NAME, "2.0.0", {"bin/cli.js": b"evil"})))
    other.tell(NAME, "2.0.0", integrity(tarball(whole(NAME, "2.0.0", {"bin/cli.js": b"evil"}))))

    found = world.vendor(world.npm.cache, other.cache)
    assert found.evidence == DISAGREES
    assert f"{NAME} 2.0.0: npm's files name different tarballs of it" in found.what


def test_a_tarball_with_another_hash_than_it_is_kept_under_is_a_contradiction(world):
    world.npm.keep(world.tarball).write_bytes(tarball(whole(NAME, "2.0.0", {"bin/cli.js": b"evil"})))

    found = world.vendor()
    assert found.evidence == DISAGREES
    assert "is not the one that npm noted" in found.what


def test_a_document_with_another_hash_than_it_is_kept_under_says_nothing(world):
    for place in (world.npm.cache / "content-v2").rglob("*"):
        if place.is_file() and place.read_bytes().startswith(b"{"):
            place.write_bytes(place.read_bytes() + b" ")

    found = world.vendor()
    assert found.evidence == NONE
    assert "npm noted no integrity of it" in found.what


def test_a_link_in_the_place_of_the_cache_or_of_a_tarball_is_not_followed(world, tmp_path):
    place = world.npm.keep(world.tarball)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert f"{NAME} 2.0.0: its tarball is not in npm's cache" in world.vendor().what

    world.npm.cache.rename(tmp_path / "cache")
    world.npm.cache.symlink_to(tmp_path / "cache")
    assert world.vendor().evidence == NONE


def test_a_package_that_changes_while_it_is_compared_is_not_compared(world):
    script = enrolled(world.root / "bin/cli.js", world.path).script
    (world.root / "lib/a.js").write_bytes(b"changed")

    found = vendor_of_script(script, (world.npm.cache,))
    assert found.evidence == NONE
    assert "changed while it was looked at" in found.what


def member(name, kind=tarfile.REGTYPE, target="", **facts):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    for key, value in facts.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("name", ["package/../../evil", "/evil", "package/..", "..", "package"])
def test_a_tarball_with_a_member_outside_of_the_package_is_refused(name):
    packed = tarball({"a": b""}, more=(member(name),))

    with pytest.raises(ValueError, match="member"):
        npm_tarball.read_tarball(io.BytesIO(packed), npm_tarball.Room(1 << 20))


def test_links_in_a_tarball_are_not_counted():
    more = (member("package/l", tarfile.SYMTYPE, "/etc/passwd"), member("package/h", tarfile.LNKTYPE, "package/a"))
    packed = npm_tarball.read_tarball(io.BytesIO(tarball({"a": b"1"}, more=more)), npm_tarball.Room(1 << 20))

    assert set(packed.files) == {b"a"}


def test_names_are_those_that_npm_gives():
    packed = tarball({".gitignore": b"1", "d/.gitignore": b"2", "d/.npmignore": b"3"}, folder="any-name/")

    found = npm_tarball.read_tarball(io.BytesIO(packed), npm_tarball.Room(1 << 20)).files
    same = npm_tarball.read_tarball(
        io.BytesIO(tarball({".npmignore": b"1", "d/.npmignore": b"3"})), npm_tarball.Room(1 << 20)
    ).files
    assert found == same


def test_a_tarball_that_unpacks_to_more_than_there_is_room_for_is_refused():
    packed = tarball({"zeros": bytes(1 << 20)})

    with pytest.raises(ValueError, match="too much"):
        npm_tarball.read_tarball(io.BytesIO(packed), npm_tarball.Room(1 << 20))


def test_a_header_that_says_that_it_is_huge_is_not_read_at_once():
    header = member("package/PaxHeaders/a", tarfile.XHDTYPE, size=1 << 40)
    packed = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))

    with pytest.raises(ValueError, match="too large"):
        npm_tarball.read_tarball(io.BytesIO(packed), npm_tarball.Room(1 << 50))


def test_too_many_members_are_refused(monkeypatch):
    monkeypatch.setattr(npm_tarball, "_MAX_MEMBERS", 3)

    with pytest.raises(ValueError, match="too many"):
        npm_tarball.read_tarball(io.BytesIO(tarball(dict.fromkeys("abcd", b""))), npm_tarball.Room(1 << 20))


def test_a_tarball_that_is_refused_is_no_evidence(world, monkeypatch):
    monkeypatch.setattr(npm_evidence, "_MAX_UNPACKED_BYTES", 100)

    found = world.vendor()
    assert found.evidence == NONE
    assert "its tarball can't be read (ValueError)" in found.what


def test_packages_beyond_the_bound_are_said_not_to_be_compared(world, monkeypatch):
    monkeypatch.setattr(npm_evidence, "_MAX_PACKAGES", 1)

    found = world.vendor()
    assert found.evidence == NONE
    assert "there are too many packages" in found.what
