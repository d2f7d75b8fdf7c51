"""The programs in the running kernel: what they see of real processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent_broker.identity.environment import scan_strings
from agent_broker.lineage.store import Store
from agent_broker.monitor.lost_exits import LOOK_S, LostExits
from tests.fakes.backends import BACKENDS
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.kernel

SLEEP = Path("/bin/sleep").resolve()


class Watched:
    """A live sensor with its store, and the processes that a test started."""

    def __init__(self, backend, **options):
        self.store = Store(scan_strings, str)
        self.sensor = BACKENDS[backend](self.store.apply, **options)
        self.store.link_seeded()
        self.started = []

    def start(self, *argv, **options):
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        self.started.append(process)
        return process

    def lineage(self, pid):
        pidfd = os.pidfd_open(pid)
        try:
            record = self.sensor.task_record(pidfd)
        finally:
            os.close(pidfd)
        self.sensor.consume()
        return self.store.lineage(record.proc_id, record.exec_id)

    def ran(self, pid, name):
        """The lineage once the process runs ``name``; until the event of its exec has come, it has no steps."""
        for _ in range(10_000):
            lineage = self.lineage(pid)
            if lineage.steps and lineage.steps[0].image.argv0 == name:
                break
            threading.Event().wait(0.001)
        return lineage

    def end_all(self):
        for process in self.started:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def close(self):
        self.end_all()
        self.sensor.close()


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def watched(backend):
    watched = Watched(backend)
    yield watched
    watched.close()


def python(code):
    """Return the arguments of a Python that runs code, says a line when told, and then waits."""
    return (sys.executable, "-c", code)


def read_line(process):
    return process.stdout.readline().decode().strip()


def test_a_started_process_has_a_complete_lineage_to_the_origin(watched):
    process = watched.start("/bin/sleep", "60")

    lineage = watched.ran(process.pid, "/bin/sleep")

    assert lineage.gap == ""
    assert lineage.steps[0].image.filename == "/bin/sleep"
    assert lineage.steps[0].image.args_head == ("60",)
    assert lineage.steps[1].image.pid == os.getpid()
    assert not lineage.steps[1].image.observed


def test_the_record_names_the_executables_file(watched):
    process = watched.start("/bin/sleep", "60")
    fd = os.open(SLEEP, os.O_RDONLY)
    try:
        expected = watched.sensor.own_file(fd).file
    finally:
        os.close(fd)

    facts = watched.ran(process.pid, "/bin/sleep").steps[0].image.file

    assert facts == expected
    assert facts.size_bytes == SLEEP.stat().st_size
    assert facts.ctime_ns == SLEEP.stat().st_ctime_ns
    assert facts.mtime_ns == SLEEP.stat().st_mtime_ns


def test_double_fork_and_setsid_keep_the_origin(watched):
    code = (
        "import os,sys\n"
        "if os.fork(): os.wait(); os.write(1, b'gone\\n'); sys.stdin.read(); sys.exit()\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "os.write(1, b'%d\\n' % os.getpid())\n"
        "os.execv('/bin/sleep', ['sleep', '60'])\n"
    )
    process = watched.start(*python(code))
    lines = {read_line(process), read_line(process)}
    orphan = int((lines - {"gone"}).pop())
    try:
        lineage = watched.ran(orphan, "sleep")
        pids = [step.image.pid for step in lineage.steps]
    finally:
        os.kill(orphan, signal.SIGKILL)

    assert lineage.gap == ""
    assert process.pid in pids
    assert os.getpid() in pids


@pytest.mark.parametrize("how", ["fork", "vfork", "posix_spawn"])
def test_every_way_to_start_a_process_is_seen(watched, how):
    if how == "posix_spawn":
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    elif how == "vfork":
        pid = watched.start("sleep", "60", close_fds=False).pid  # CPython uses vfork then
    else:
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sleep", ["sleep", "60"])
    try:
        steps = watched.ran(pid, "sleep").steps
    finally:
        os.kill(pid, signal.SIGKILL)
        if how != "vfork":  # the fixture waits for that one
            os.waitpid(pid, 0)

    assert steps[0].image.argv0 == "sleep"
    assert steps[1].image.pid == os.getpid()


def test_exec_from_a_thread_that_is_not_the_leader_keeps_the_process(watched):
    code = (
        "import os,sys,threading\n"
        "print('up', flush=True); sys.stdin.readline()\n"
        "threading.Thread(target=os.execv, args=('/bin/sleep', ['sleep', '60'])).start()\n"
        "threading.Event().wait()\n"
    )
    process = watched.start(*python(code))
    read_line(process)
    before = watched.lineage(process.pid).steps[0]
    process.stdin.write(b"\n")
    process.stdin.flush()

    lineage = watched.ran(process.pid, "sleep")

    assert lineage.gap == ""
    assert lineage.steps[0].image.argv0 == "sleep"
    assert lineage.steps[0].proc_id == before.proc_id
    assert lineage.steps[1].relation == "exec"
    assert lineage.steps[1].image.exec_id == before.image.exec_id


def test_a_chain_of_execs_is_one_process(watched):
    chain = "exec /bin/sh -c 'exec /bin/sh -c \"exec /bin/sleep 60\"'"
    process = watched.start("/bin/sh", "-c", chain)

    lineage = watched.ran(process.pid, "/bin/sleep")

    assert lineage.gap == ""
    assert [step.image.argv0 for step in lineage.steps[:4]] == ["/bin/sleep", "/bin/sh", "/bin/sh", "/bin/sh"]
    assert [step.image.pid for step in lineage.steps[:5]] == [*[process.pid] * 4, os.getpid()]


def test_a_fork_from_a_thread_belongs_to_the_whole_process(watched):
    code = (
        "import subprocess,sys,threading\n"
        "def run():\n p=subprocess.Popen(['/bin/sleep','60']); print(p.pid, flush=True); sys.stdin.read(); p.kill()\n"
        "threading.Thread(target=run).start()\n"
    )
    process = watched.start(*python(code))
    child = int(read_line(process))

    steps = watched.lineage(child).steps

    assert steps[1].proc_id == watched.lineage(process.pid).steps[0].proc_id
    process.stdin.close()
    process.wait()


NOT_OPEN = 100_000


def test_many_descriptors_are_looked_up_in_one_walk(watched, tmp_path):
    fds = []
    for number in range(300):
        (tmp_path / str(number)).touch()
        fds.append(os.open(tmp_path / str(number), os.O_PATH))
    try:
        found = watched.sensor.own_files([*reversed(fds), NOT_OPEN])
        one = watched.sensor.own_file(fds[7])
    finally:
        for fd in fds:
            os.close(fd)

    assert [each.file.ino for each in found[:-1]] == [(tmp_path / str(299 - at)).stat().st_ino for at in range(300)]
    assert found[-1] is None
    assert found[-1 - 8].file == one.file


def test_a_registered_files_environment_is_captured_whole_and_at_exec(watched):
    fd = os.open(SLEEP, os.O_RDONLY)
    file = watched.sensor.own_file(fd).file
    os.close(fd)
    watched.sensor.register(file.dev, file.ino)
    hidden = watched.start("/bin/sleep", "60", env={"PAD": "x" * 9000, "BUN_OPTIONS": "--preload=x"})
    clean = watched.start("/bin/sleep", "60", env={"PAD": "x" * 120_000})
    long = watched.start("/bin/sleep", "60", env={f"PAD{number}": "x" * 120_000 for number in range(2)})

    def taints(process):
        image = watched.ran(process.pid, "/bin/sleep").steps[0].image
        captured = watched.store.captured(image.exec_id)
        return [*(each.name for each in captured.injections), captured.problem]

    assert taints(hidden) == ["BUN_OPTIONS", ""]
    assert taints(clean) == [""]
    assert "longer than 128 KiB" in taints(long)[0]


TRACED = """
import ctypes, os
pid = os.fork()
if pid == 0:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
    os.execv("/bin/sleep", ["sleep", "60"])
os.waitpid(pid, 0)  # stopped by the exec
print(pid, flush=True)
input()
os.kill(pid, 9)
"""


@pytest.mark.parametrize(("uid", "tainted"), [(1500, True), (0, False)])
def test_an_exec_that_is_traced_by_others_than_root_is_tainted(watched, uid, tainted):
    tracer = watched.start("/usr/bin/python3", "-c", TRACED, user=uid, text=True)
    pid = int(tracer.stdout.readline())
    try:
        taints = watched.lineage(pid).steps[0].image.taints
    finally:
        tracer.communicate("\n")

    assert bool(taints) == tainted
    assert all("tracer" in taint for taint in taints)


def test_a_memfd_program_has_no_name(watched):
    fd = os.memfd_create("x", 0)
    os.write(fd, SLEEP.read_bytes())
    process = watched.start(f"/proc/self/fd/{fd}", "60", pass_fds=(fd,))
    os.close(fd)

    assert "no name" in watched.ran(process.pid, f"/proc/self/fd/{fd}").steps[0].image.taints[0]


def test_the_holders_of_a_socket_are_all_who_have_it_open(watched):
    ours, theirs = socket.socketpair()
    inode = os.fstat(ours.fileno()).st_ino
    assert {each.pid for each in watched.sensor.socket_holders(inode)} == {os.getpid()}

    process = watched.start("/bin/sleep", "60", pass_fds=(ours.fileno(),))

    assert {each.pid for each in watched.sensor.socket_holders(inode)} == {os.getpid(), process.pid}
    ours.close()
    theirs.close()


_CONNECT = (
    "import os, socket, sys; end = socket.socket(socket.AF_UNIX); end.connect(sys.argv[1]);"
    "print(os.fstat(end.fileno()).st_ino, flush=True); sys.stdin.readline(); end.close();"
    "print('closed', flush=True); sys.stdin.readline()"
)


def test_the_other_end_of_a_unix_connection_is_found_in_another_network_namespace(watched, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as unconnected:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client = watched.start("/usr/bin/unshare", "--net", sys.executable, "-c", _CONNECT, str(tmp_path / "s"))
        theirs = int(client.stdout.readline())
        with listener.accept()[0] as ours:
            inode = os.fstat(ours.fileno()).st_ino

            assert watched.sensor.other_end_of(inode) == theirs
            assert {each.pid for each in watched.sensor.socket_holders(theirs)} == {client.pid}

            client.stdin.write(b"\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"closed\n"
            assert watched.sensor.other_end_of(inode) == 0
        assert watched.sensor.other_end_of(os.fstat(unconnected.fileno()).st_ino) == 0


def test_a_dead_processs_record_is_gone(watched):
    process = watched.start("/bin/true")
    pidfd = os.pidfd_open(process.pid)
    process.wait()

    assert watched.sensor.task_record(pidfd) is None
    os.close(pidfd)


def test_a_tiny_ring_loses_events_counts_them_and_makes_the_lineage_unknown(backend):
    watched = Watched(backend, ring_bytes=4096)
    try:
        for _ in range(40):
            subprocess.run(["/bin/true"], check=True)
        assert watched.sensor.losses().total > 0
        survivor = watched.start("/bin/sleep", "60")
        assert watched.lineage(survivor.pid).gap
    finally:
        watched.close()


def test_processes_whose_exit_was_lost_are_forgotten_all_the_same(backend):
    watched = Watched(backend, ring_bytes=64 * 1024)
    clock = FakeClock()
    lost = LostExits(watched.sensor, watched.store, clock)
    try:
        survivor = watched.start("/bin/sleep", "60")
        ended = []
        for _ in range(5):  # the ring is small, and others on this machine start programs too
            ended.append(subprocess.Popen(["/bin/sleep", "60"]))
            watched.sensor.consume()
        while not watched.sensor.losses().fork:  # nobody reads: from then on nothing arrives
            subprocess.run(["/bin/true"], check=True)
        for each in ended:
            each.kill()
            each.wait()
        watched.sensor.consume()
        pids = {each.pid for each in ended}
        assert len(live(watched.store) & pids) > 1
        assert lost.look() == 0  # not yet

        clock.advance_s(LOOK_S)
        assert lost.look() > 1
        assert live(watched.store) & pids == set()
        assert {survivor.pid, os.getpid()} <= live(watched.store)
        clock.advance_s(LOOK_S)
        lost.look()
        assert {survivor.pid, os.getpid()} <= live(watched.store)
    finally:
        watched.close()


def live(store):
    found = set()
    store.end_unless(lambda _, pid: found.add(pid) is None)
    return found


def test_a_burst_of_short_processes_loses_nothing(watched):
    ended = set()

    def burst():
        for _ in range(250):
            process = subprocess.Popen(["/bin/true"])
            assert process.wait() == 0
            ended.add(process.pid)

    threads = [threading.Thread(target=burst) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watched.sensor.consume()

    assert watched.sensor.losses().total == 0
    assert watched.sensor.consumed >= 3000
    assert len(ended) == 1000
    assert live(watched.store) & ended == set()  # others on this machine come and go
