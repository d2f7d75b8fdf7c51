"""Which headers are taken for the running kernel's, and what is asked of them."""

import os
import re

import pytest

from agent_broker.cli.diagnosis import diagnose
from agent_broker.cli.finding import Finding
from agent_broker.config.document import Config
from agent_broker.errors import UnavailableError
from agent_broker.kernel.bcc import map_files
from agent_broker.kernel.bcc.headers import Headers, defines, of_running_kernel, questions, require_version
from tests.fakes.control import monitor_status

RELEASE = os.uname().release
_DEBIAN = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2025-11-01)"


def tree(folder, *, fs="", release=RELEASE):
    """Headers of one folder."""
    (folder / "include/linux").mkdir(parents=True)
    (folder / "include/generated").mkdir()
    (folder / "include/linux/fs.h").write_text(fs)
    (folder / "include/generated/utsrelease.h").write_text(f'#define UTS_RELEASE "{release}"\n')
    return folder


def test_the_folder_of_the_modules_comes_first_and_then_that_of_the_sources(tmp_path):
    tree(tmp_path / "usr/src" / f"linux-headers-{RELEASE}")
    assert of_running_kernel(tmp_path).build == tmp_path / "usr/src" / f"linux-headers-{RELEASE}"
    tree(tmp_path / "lib/modules" / RELEASE / "build")
    assert of_running_kernel(tmp_path).build == tmp_path / "lib/modules" / RELEASE / "build"


def test_what_all_configurations_share_may_lie_beside(tmp_path):
    modules = tmp_path / "lib/modules" / RELEASE
    tree(modules / "build").joinpath("include/linux/fs.h").unlink()
    with pytest.raises(UnavailableError, match=r"has no include/linux/fs\.h"):
        of_running_kernel(tmp_path)
    tree(tmp_path / "shared")
    (modules / "source").symlink_to(tmp_path / "shared")
    found = of_running_kernel(tmp_path)
    assert found == Headers(modules / "build", tmp_path / "shared")
    assert f"-I{tmp_path}/shared/include" in found.flags()


@pytest.mark.parametrize("text", ["", '#define UTS_RELEASE "6.1"\n', f'// #define UTS_RELEASE "{RELEASE}"\n'])
def test_another_release_is_refused(tmp_path, text):
    build = tree(tmp_path / "lib/modules" / RELEASE / "build")
    (build / "include/generated/utsrelease.h").write_text(text)
    with pytest.raises(UnavailableError, match="wrong fields would be read"):
        of_running_kernel(tmp_path)
    (build / "include/generated/utsrelease.h").unlink()
    with pytest.raises(UnavailableError, match="can't be read"):
        of_running_kernel(tmp_path)


def test_a_folder_above_that_others_may_write_is_refused(tmp_path):
    tree(tmp_path / "lib/modules" / RELEASE / "build")
    (tmp_path / "lib/modules").chmod(0o775)
    with pytest.raises(UnavailableError, match=r"lib/modules is not root's alone"):
        of_running_kernel(tmp_path)
    (tmp_path / "lib/modules").chmod(0o755)
    os.chown(tmp_path / "lib", 1500, 0)
    with pytest.raises(UnavailableError, match=r"lib is not root's alone"):
        of_running_kernel(tmp_path)


def test_debians_kernel_tells_its_version_beside_its_name():
    require_version(0x0601C0, _DEBIAN)
    require_version(0x060100, "#1 SMP PREEMPT_DYNAMIC @0")
    with pytest.raises(UnavailableError, match=r"of Linux 6\.1\.180, and 6\.1\.192 runs under the same name"):
        require_version(0x0601B4, _DEBIAN)


@pytest.mark.parametrize(
    ("fs", "second", "base"),
    [
        ("file_ref_t f_ref; time64_t i_mtime_sec;", "i_mtime_sec", -1),
        ("atomic_long_t f_count; struct timespec64 __i_mtime;", "__i_mtime.tv_sec", 0),
        ("atomic_long_t f_count; struct timespec64 i_mtime;", "i_mtime.tv_sec", 0),
    ],
)
def test_each_field_is_asked_for_where_the_headers_have_it(tmp_path, fs, second, base):
    headers = Headers(*[tree(tmp_path / "h", fs=fs)] * 2)
    text, names = questions(headers)
    assert f"__builtin_offsetof(struct inode, {second})" in text
    assert "__builtin_offsetof(struct ns_common, inum)" in text
    assert len(re.findall(r"^long tell_", text, re.MULTILINE)) == len(names)
    arguments = defines(headers, dict.fromkeys(names, 8))
    assert "-DOFFSET_inode__mtime_s=8" in arguments
    assert f"-DREFERENCES_BASE=({base})" in arguments


def test_mappings_are_named_by_their_addresses_whatever_their_files_are_called():
    maps = (
        b"00400000-00401000 r-xp 00000000 08:01 42                  /bin/a r-xp 00000000 08:01 9\n"
        b"00401000-00402000 r--p 00000000 08:01 42                  /bin/a\n"
        b"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 \n"
        b"7f0000002000-7f0000003000 r-xs 00000000 00:2f 0           /fuse\n"
        b"7fff00000000-7fff00001000 r-xp 00000000 00:00 0           [vdso]\n"
    )
    assert list(map_files._ranges(maps)) == ["400000-401000", "7f0000002000-7f0000003000"]


def test_mappings_that_change_all_the_time_are_not_called_clean(monkeypatch):
    monkeypatch.setattr(map_files, "_ranges", lambda _: iter(["1000-2000"]))
    with (
        pytest.raises(UnavailableError, match="change all the time"),
        map_files.executable_files(os.getpid()),
    ):
        pass


def test_a_process_that_is_gone_maps_nothing():
    with map_files.executable_files(2**22 + 1) as found:
        assert found == ()


def test_doctor_says_that_headers_are_believed_and_what_is_weaker():
    broker = Finding("broker", "failed", "down")
    by_types, by_headers = (
        diagnose(broker, monitor_status(backend="bcc", offsets=each), Config(), broker) for each in ("btf", "headers")
    )
    (said,) = set(by_headers.findings) - set(by_types.findings)
    assert (said.subject, said.state) == ("offsets", "warning")
    assert "by its headers" in said.text
    assert "BTF" in said.next_step
