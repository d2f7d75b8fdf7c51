"""The digest of a package: what changes it, and what does not."""

import os
import shutil
from pathlib import Path

import pytest

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.identity import tree as tree_module
from agent_broker.identity.bundle import digest_of, hash_files, lasting
from agent_broker.identity.tree import Bounds, has_writer, scan_tree


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "package"
    (root / "sub/deep").mkdir(parents=True)
    (root / "a.js").write_text("a")
    (root / "sub/b.js").write_text("b")
    (root / "sub/deep/c.js").write_text("c")
    (root / "link").symlink_to("sub/b.js")
    return root


def digest(root):
    tree = scan_tree(str(root), Bounds())
    return digest_of(tree, hash_files(str(root), tree, {}))


def test_the_digest_is_what_the_documentation_says(tmp_path):
    """Computed by hand, so that another program could."""
    import hashlib  # noqa: PLC0415 - the only test that hashes by itself

    root = tmp_path / "p"
    root.mkdir(mode=0o755)
    (root / "a").write_bytes(b"x")
    (root / "a").chmod(0o644)
    root.chmod(0o755)
    file = hashlib.sha256(
        b"agent-broker bundle 1 file\n" + (0o644).to_bytes(4, "big") + hashlib.sha256(b"x").digest()
    ).digest()
    folder = b"agent-broker bundle 1 folder\n" + (0o755).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"a" + file

    assert digest(root) == hashlib.sha256(folder).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "sub/deep/c.js").write_text("C"),
        lambda root: (root / "sub/deep/c.js").rename(root / "sub/deep/d.js"),
        lambda root: (root / "sub/deep/c.js").rename(root / "sub/c.js"),
        lambda root: (root / "sub/deep/new.js").write_text(""),
        lambda root: (root / "new").mkdir(),
        lambda root: (root / "a.js").chmod(0o755),
        lambda root: (root / "sub").chmod(0o700),
        lambda root: root.chmod(0o700),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("a.js")),
        lambda root: ((root / "link").unlink(), shutil.copy(root / "sub/b.js", root / "link")),
        lambda root: (root / "sub/deep/c.js").unlink(),
        lambda root: ((root / "a.js").write_text("b"), (root / "sub/b.js").write_text("a")),
    ],
)
def test_any_change_gives_another_digest(package, change):
    before = digest(package)

    change(package)

    assert digest(package) != before


def test_the_same_package_installed_again_has_the_same_digest(package, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(package, copy, symlinks=True)
    for each in copy.rglob("*"):
        os.utime(each, (1, 1), follow_symlinks=False)

    assert digest(copy) == digest(package)


def test_a_single_file_can_be_a_package(package):
    tree = scan_tree(str(package / "a.js"), Bounds())

    assert list(tree.entries) == [b""]
    assert digest(package / "a.js") != digest(package / "sub/b.js")


def test_names_that_are_no_text_are_bytes_like_others(package):
    (Path(os.fsdecode(os.fsencode(package) + b"/\xff"))).write_text("x")

    assert len(digest(package)) == 64


def test_special_files_are_refused(package):
    os.mkfifo(package / "sub/pipe")

    with pytest.raises(MisuseError, match="special file: sub/pipe"):
        digest(package)


def test_a_link_to_a_folder_is_not_followed(package):
    (package / "up").symlink_to("..")
    (package / "root").symlink_to("/")

    assert scan_tree(str(package), Bounds()).files == 6


@pytest.mark.parametrize("bounds", [Bounds(files=3), Bounds(size_bytes=2)])
def test_more_than_the_bounds_is_refused(package, bounds):
    with pytest.raises(MisuseError, match="has more than"):
        scan_tree(str(package), bounds)


def test_too_deep_a_package_is_refused(package, monkeypatch):
    monkeypatch.setattr(tree_module, "MAX_DEPTH", 1)

    with pytest.raises(MisuseError, match="deeper than"):
        scan_tree(str(package), Bounds())


def test_a_file_that_somebody_has_open_for_writing_is_named(package):
    with (package / "sub/b.js").open("r+"):
        tree = scan_tree(str(package), Bounds())

    assert tree.written == (b"sub/b.js",)
    assert scan_tree(str(package), Bounds()).written == ()


def test_a_mapping_for_writing_is_a_writer_after_its_descriptor_was_closed(package):
    import mmap  # noqa: PLC0415

    with (package / "a.js").open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    fd = os.open(package / "a.js", os.O_RDONLY)

    held = has_writer(fd)
    mapping.close()

    assert held
    assert not has_writer(fd)
    os.close(fd)


def test_a_file_that_changes_between_scan_and_hash_is_an_error(package):
    tree = scan_tree(str(package), Bounds())
    (package / "a.js").unlink()
    (package / "a.js").write_text("z")

    with pytest.raises(IntegrityError):
        hash_files(str(package), tree, {})


def test_known_files_are_not_read_again_but_young_ones_are(package):
    tree = scan_tree(str(package), Bounds())
    hashes = hash_files(str(package), tree, {})
    wrong = dict.fromkeys(hashes, b"0" * 32)

    assert hash_files(str(package), tree, wrong) == wrong
    assert lasting(hashes, tree.newest_ns) == {}
    assert lasting(hashes, tree.newest_ns + 10**9) == hashes


def test_every_entry_is_followed_before_it_is_looked_at(package):
    seen = []

    def follow(fd, path):
        seen.append((path, os.fstat(fd).st_ino))

    tree = scan_tree(str(package), Bounds(), follow)

    assert seen == [(path, entry.ino) for path, entry in tree.entries.items()]
