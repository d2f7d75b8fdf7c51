"""Every way of opening a denied file, on each file system: refused, and told; the same on another file: done.

The kernel's side alone: what it tells of each. Whom an incident names, on every form of path: test_open_table.py.
"""

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from agent_broker.kernel import wire
from tests.fakes.denying import USER, Denying
from tests.fakes.file_systems import KINDS, FileSystem

OPENS = (
    "open", "open-old", "open-write", "open-append", "open-noatime", "creat", "int80-open", "int80-openat",
    "openat-dirfd", "open-chdir", "openat2", "handle", "io_uring", "io_uring-openat2", "mmap", "opath-proc",
    "proc-root", "thread", "child",
)  # fmt: skip
CHANGES = {
    "truncate": wire.OPERATION_TRUNCATE,
    "unlink": wire.OPERATION_UNLINK,
    "rename": wire.OPERATION_RENAME,
    "rename-over": wire.OPERATION_RENAME,
    "rename-exchange": wire.OPERATION_RENAME,
    "link": wire.OPERATION_LINK,
}
CUT = """
import os
try:
    os.ftruncate(0, 0)
    print(0)
except OSError as refusal:
    print(refusal.errno)
"""


@pytest.fixture(scope="module")
def world():
    world = Denying()
    yield world
    world.close()


@pytest.fixture(scope="module", params=KINDS)
def place(world, request):
    """A file system."""
    system = FileSystem(request.param, world.folder)
    yield system
    system.close()


@pytest.fixture
def decoy(world, place):
    """A denied file that came from the lower layer, if there is one."""
    path = place.at / world.file(place.lower).relative_to(place.lower)
    world.mark(path)
    world.denied()
    return path


def require_told(world, path, operation):
    facts = path.stat()
    told = world.denied()
    assert {(each.ino, each.operation, each.uid) for each in told} == {(facts.st_ino, operation, 1500)}
    return told


@pytest.mark.parametrize("how", OPENS)
def test_an_open_is_refused_by_whatever_mechanism(world, place, decoy, how):
    assert world.open(how, world.file(place.at)) == 0
    assert world.denied() == []

    assert world.open(how, decoy) == errno.EPERM

    event = require_told(world, decoy, wire.OPERATION_OPEN)[0]
    assert world.store.image(event.exec_id).filename == str(world.opener)
    assert decoy.read_bytes() != b""


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_without_an_open_is_refused(world, place, decoy, how):
    assert world.open(how, world.file(place.at)) == 0

    assert world.open(how, decoy) == errno.EPERM

    require_told(world, decoy, CHANGES[how])
    assert decoy.read_bytes() != b""


def cut(path, fd):
    """Empty a file by a descriptor that is inherited; return what the kernel says."""
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", CUT], user=USER, group=USER, extra_groups=(), cwd="/", stdin=fd,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout), path.stat().st_size


def test_a_descriptor_that_is_older_than_the_mark_does_not_empty_it(world, place):
    other, path = world.file(place.at), world.file(place.at)
    size = path.stat().st_size
    world.denied()
    with other.open("r+b") as mine, path.open("r+b") as file:
        world.mark(path)

        assert cut(other, mine) == (0, 0)
        assert world.denied() == []
        assert cut(path, file) == (errno.EPERM, size)
        require_told(world, path, wire.OPERATION_TRUNCATE)


def test_a_layers_file_is_not_emptied_through_the_overlay(world):
    system = FileSystem("tmpfs", world.file().parent)
    layers = {name: world.file(system.at).parent for name in ("lower", "upper", "work", "merged")}
    options = ",".join(f"{name}dir={layers[name]}" for name in ("lower", "upper", "work"))
    with contextlib.ExitStack() as undo:
        undo.callback(system.close)
        subprocess.run(["mount", "-t", "overlay", "-o", options, "none", layers["merged"]], check=True)
        undo.callback(subprocess.run, ["umount", layers["merged"]], check=True)
        path, other = world.file(layers["upper"]), world.file(layers["upper"])
        world.mark(path)
        world.denied()
        above, other_above = (layers["merged"] / each.relative_to(layers["upper"]) for each in (path, other))

        assert world.open("truncate", other_above) == 0
        assert other.read_bytes() == b""
        assert world.open("truncate", above) == errno.EPERM
        require_told(world, path, wire.OPERATION_TRUNCATE)
        assert path.read_bytes() != b""


def test_executing_a_denied_file_is_refused(world, place, decoy):
    assert world.open("exec", world.file(place.at)) is None

    assert world.open("exec", decoy) == errno.EPERM


def test_a_descriptor_of_a_denied_file_can_not_be_received(world, place, decoy):
    assert world.receive(world.file(place.at)) == 0

    assert world.receive(decoy) == errno.EBADF

    require_told(world, decoy, wire.OPERATION_RECEIVE)


def test_looking_is_not_opening(world, decoy):
    assert world.open("stat", decoy) == 0
    assert world.open("chmod", decoy) == 0
    assert world.denied() == []


def test_by_another_name(world, place, decoy):
    """A hard link that is older than the mark, a symbolic link, a bind mount."""
    other = world.file(place.at)
    hard = other.parent / "hard"
    os.link(other, hard)
    world.mark(other)
    soft = decoy.parent / "soft"
    soft.symlink_to(decoy)
    bound = world.file()
    subprocess.run(["mount", "--bind", decoy, bound], check=True)
    try:
        outcomes = [
            world.open("open", hard),
            world.open("open", soft),
            world.open("open", bound),
        ]
    finally:
        subprocess.run(["umount", bound], check=True)

    assert outcomes == [errno.EPERM] * 3
    assert world.denied()[2].name == os.fsencode(bound)


@pytest.mark.parametrize(
    "namespaces",
    [
        ("unshare", "--mount", "setpriv", "--reuid=1500", "--regid=1500", "--clear-groups"),
        ("setpriv", "--reuid=1500", "--regid=1500", "--clear-groups", "unshare", "--user", "--map-root-user"),
        (
            "setpriv", "--reuid=1500", "--regid=1500", "--clear-groups",
            "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork",
        ),
    ],
)  # fmt: skip
def test_from_another_namespace(world, place, decoy, namespaces):
    assert world.open("open", world.file(place.at), *namespaces, uid=0) == 0

    assert world.open("open", decoy, *namespaces, uid=0) == errno.EPERM


def test_through_the_root_of_another_process(world, place, decoy):
    other = subprocess.Popen(["/bin/sleep", "600"], user=1500, group=1500, extra_groups=(), cwd="/")
    try:
        root = f"/proc/{other.pid}/root"
        assert world.open("open", root + str(world.file(place.at))) == 0
        assert world.open("open", root + str(decoy)) == errno.EPERM
    finally:
        other.kill()
        other.wait()


def test_after_the_kernel_forgot_the_inode(world, decoy):
    numbers = decoy.stat().st_ino
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")

    assert world.open("open", decoy) == errno.EPERM
    assert decoy.stat().st_ino == numbers


def test_an_inode_number_that_was_given_away_is_not_denied(world, place):
    path = world.file(place.at)
    world.mark(path)
    number = path.stat().st_ino
    path.unlink()
    for _ in range(64):
        another = world.file(place.at)
        if another.stat().st_ino == number:
            break

    assert world.open("open", another) == 0


def test_a_mark_of_a_layers_file_holds_through_the_overlay_and_after_a_copy_up(world, place, decoy):
    below = world.file(place.lower)
    world.mark(below)
    above = place.at / below.relative_to(place.lower)
    assert world.open("open", above) == errno.EPERM

    with decoy.open("ab") as file:  # root; an overlay copies it up
        file.write(b"x")

    assert world.open("open", decoy) == errno.EPERM
