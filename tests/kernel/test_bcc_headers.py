"""The backend bcc by the running kernel's headers: its look-ups, whose contract is the iterators', and its refusals.

The machine need not have headers: they are made up from the kernel's own types. tests/vm has real ones.
"""

import ctypes
import os
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.identity import connection
from agent_broker.identity.connection import only_holder
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Unknown
from agent_broker.kernel.bcc import headers
from agent_broker.kernel.bcc.sensor import BccSensor, offsets_here
from agent_broker.kernel.wire import TAINT_WRITTEN
from agent_broker.lineage.store import Store
from tests.e2e.patience import until
from tests.fakes import kernel_headers, tampering
from tests.kernel.test_sensor import (
    Watched,
    test_a_chain_of_execs_is_one_process,  # noqa: F401 - collected here
    test_a_dead_processs_record_is_gone,  # noqa: F401
    test_a_registered_files_environment_is_captured_whole_and_at_exec,  # noqa: F401
    test_a_started_process_has_a_complete_lineage_to_the_origin,  # noqa: F401
    test_double_fork_and_setsid_keep_the_origin,  # noqa: F401
    test_every_way_to_start_a_process_is_seen,  # noqa: F401
    test_exec_from_a_thread_that_is_not_the_leader_keeps_the_process,  # noqa: F401
    test_many_descriptors_are_looked_up_in_one_walk,  # noqa: F401
    test_the_holders_of_a_socket_are_all_who_have_it_open,  # noqa: F401
    test_the_other_end_of_a_unix_connection_is_found_in_another_network_namespace,  # noqa: F401
    test_the_record_names_the_executables_file,  # noqa: F401
)

pytestmark = pytest.mark.kernel

_RAW_TRACEPOINT = 17  # enum bpf_prog_type


@pytest.fixture(scope="module")
def root():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        kernel_headers.write(Path(name))
        yield Path(name)


@pytest.fixture(scope="module")
def loaded(root):
    store = Store(scan_strings, str)
    sensor = BccSensor(store.apply, offsets="headers", root=root)
    store.link_seeded()
    yield store, sensor
    sensor.close()


@pytest.fixture(scope="module")
def by_types():
    sensor = BccSensor(lambda _: None, offsets="btf")
    yield sensor
    sensor.close()


class Shared(Watched):
    """One test's processes, and the sensor of all."""

    def __init__(self, store, sensor):
        self.store, self.sensor, self.started = store, sensor, []


@pytest.fixture
def watched(loaded):
    watched = Shared(*loaded)
    yield watched
    watched.end_all()


def loaded_programs(programs):
    """Of which kinds they are."""
    kinds = set()
    for fd in programs.program_fds():
        info = (ctypes.c_uint * 2)()
        size = ctypes.c_uint(ctypes.sizeof(info))
        programs.libbpf.number("bpf_obj_get_info_by_fd", fd, ctypes.byref(info), ctypes.byref(size))
        kinds.add("raw_tracepoint" if info[0] == _RAW_TRACEPOINT else info[0])
    return kinds


def test_nothing_that_needs_the_kernels_types_is_loaded(loaded):
    assert loaded_programs(loaded[1]._programs) == {"raw_tracepoint"}


_MAP = """
import mmap, os, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        globals()[path] = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
os.unlink(sys.argv[-1])
print("mapped", flush=True)
sys.stdin.read()
"""


def test_both_ways_find_the_same_mappings(watched, by_types, tmp_path):
    files = [tmp_path / name for name in ("of-root", "anybodys", "with\nlines", "removed")]
    for each in files:
        each.write_bytes(b"code")
    files[1].chmod(0o666)
    os.chown(files[2], 1500, 1500)
    process = watched.start(sys.executable, "-c", _MAP, *map(str, files))
    assert process.stdout.readline() == b"mapped\n"

    found = watched.sensor.foreign_mappings(process.pid)

    assert {each.ino for each in found} >= {each.stat().st_ino for each in files[1:3]}
    assert len(found) == 3
    assert set(found) == set(by_types.foreign_mappings(process.pid))


def test_both_ways_say_the_same_of_open_files_and_of_who_holds_a_socket(watched, by_types):
    end, other = socket.socketpair()
    with end, other, Path("/bin/true").open("rb") as file:
        inode = os.fstat(end.fileno()).st_ino
        watched.ran(watched.start("/bin/sleep", "60", pass_fds=[end.fileno()]).pid, "/bin/sleep")

        assert watched.sensor.own_file(file.fileno()) == by_types.own_file(file.fileno())
        by_programs, by_iterators = watched.sensor.socket_holders(inode), by_types.socket_holders(inode)
        assert {each.pid: each for each in by_programs} == {each.pid: each for each in by_iterators}
        assert [each.references for each in by_programs] == [2, 2]


_LEAVE = """
import ctypes, socket, sys, threading, os
end = socket.socket(fileno=int(sys.argv[1]))
libc = ctypes.CDLL(None)
def leave():
    if sys.argv[2] == "own files":
        assert libc.unshare(0x400) == 0  # CLONE_FILES
    os.write(1, b"ready\\n")
    sys.stdin.read()
threading.Thread(target=leave).start()
if sys.argv[2] == "ended":
    libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit: of this thread
"""


@pytest.mark.parametrize(("how", "found"), [("own files", 1), ("ended", 0)])
def test_a_table_that_is_not_looked_through_refuses(watched, how, found):
    end, other = socket.socketpair()
    with other:
        inode = os.fstat(end.fileno()).st_ino
        process = watched.start(sys.executable, "-c", _LEAVE, str(end.fileno()), how, pass_fds=[end.fileno()])
        end.close()
        assert process.stdout.readline() == b"ready\n"
        until(lambda: len(watched.sensor.socket_holders(inode)) == found)

        with only_holder(watched.sensor.socket_holders(inode)) as holder:
            assert isinstance(holder, connection.Shared if found else Unknown)


def test_a_descriptor_on_its_way_to_somebody_refuses(watched):
    end, other = socket.socketpair()
    with other, end, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as post:
        inode = os.fstat(end.fileno()).st_ino
        post.bind("")
        post.connect(post.getsockname())
        with only_holder(watched.sensor.socket_holders(inode)) as holder:
            assert isinstance(holder, int)
        socket.send_fds(post, [b"x"], [end.fileno()])
        with only_holder(watched.sensor.socket_holders(inode)) as holder:
            assert isinstance(holder, connection.Shared)


async def test_who_writes_an_agents_memory_taints_it(monkeypatch, root):
    monkeypatch.setitem(tampering.BACKENDS, "headers", partial(BccSensor, offsets="headers", root=root))
    world = tampering.World("headers")
    try:
        assert await world.enroll() == ()
        victim = world.start()
        assert (await world.attest(victim.pid)).taints == ()
        assert world.tamper("vm-write", victim)[0] == "done"
        assert world.taints(victim) == (TAINT_WRITTEN, TAINT_WRITTEN)
    finally:
        world.close()


@pytest.fixture
def other_root():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def refused(root, match):
    with pytest.raises(UnavailableError, match=match) as told:
        BccSensor(lambda _: None, offsets="headers", root=root)
    return told.value.explain()


def test_without_headers_it_is_said_which_package_to_install(other_root):
    said = refused(other_root, "its headers are neither in")
    assert f"apt-get install linux-headers-{os.uname().release}" in said


def test_headers_of_another_kernel_are_refused(other_root):
    kernel_headers.write(other_root, release="6.1.0-1-other")
    said = refused(other_root, "is of the kernel 6.1.0-1-other, and .* runs")
    assert f"linux-headers-{os.uname().release}" in said


def test_headers_that_others_could_have_written_are_refused(other_root):
    kernel_headers.write(other_root).joinpath("include/generated/utsrelease.h").chmod(0o666)
    refused(other_root, "is not root's alone")


def test_headers_that_place_fields_wrongly_are_found_out(other_root):
    kernel_headers.write(other_root, shifted=("file__references", "unix_sock__peer", "mnt_namespace__inum"))
    said = refused(other_root, "reads wrong fields on this kernel")
    assert "its connection is held otherwise" in said
    assert "its connection leads elsewhere" in said
    assert "the mount namespace is another one" in said


def test_what_is_chosen_by_itself_is_what_the_kernel_offers(monkeypatch, tmp_path):
    assert offsets_here("auto") == "btf"
    monkeypatch.setattr(headers, "BTF", tmp_path / "nothing")
    assert offsets_here("auto") == "headers"
    assert offsets_here("btf") == "btf"
