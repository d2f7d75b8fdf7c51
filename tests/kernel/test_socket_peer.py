"""Who is at the other end of a connection: asked of the running kernel, with real sockets and processes."""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from agent_broker.clock import SystemClock
from agent_broker.inject.peer import PeerFinder, PeerUnknownError, opener_pidfd
from agent_broker.inject.sock_diag import Endpoints, SockDiag, plain
from tests.fakes.issuer import holders_of

pytestmark = pytest.mark.kernel

CLONE_NEWNET = 0x40000000
NOBODY = 65534
MS = 1_000_000


@pytest.fixture
def diag():
    opened = SockDiag()
    yield opened
    opened.close()


@pytest.fixture
def finder(diag):
    return PeerFinder(diag, SystemClock())


@contextmanager
def tcp_pair(listen="127.0.0.1", connect="", family=socket.AF_INET, client_family=None, source=None):
    """Yield client and accepted socket of one loopback connection."""
    with socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::") as listener:
        client = socket.socket(client_family or family)
        if source:
            client.bind((source, 0))
        client.connect((connect or listen, listener.getsockname()[1]))
        with client, listener.accept()[0] as accepted:
            yield client, accepted


@contextmanager
def unix_listener(folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        yield listener


@contextmanager
def child(act):
    """Run ``act(tell)`` in a forked child that keeps what it returned until the block ends; yield what it told."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kept = act(lambda text: os.write(write_end, f"{text}\n".encode()))
            signal.pause()
            del kept
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end) as told:
        try:
            yield pid, told
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def inode_of(endpoint):
    return os.fstat(endpoint.fileno()).st_ino


@pytest.mark.parametrize(
    "addresses",
    [
        {"listen": "127.0.0.1"},
        {"listen": "::1", "family": socket.AF_INET6},
        {"listen": "127.0.0.1", "connect": "::ffff:127.0.0.1", "client_family": socket.AF_INET6},
        {"listen": "::", "family": socket.AF_INET6, "connect": "127.0.0.1", "client_family": socket.AF_INET},
        {"listen": "::", "family": socket.AF_INET6, "connect": "::1"},
    ],
    ids=["v4", "v6", "mapped client", "mapped server", "any"],
)
def test_a_tcp_peers_inode_is_what_its_holder_sees(finder, addresses):
    with tcp_pair(**addresses) as (client, accepted):
        peer = finder.find(accepted)
        assert (peer.inode, peer.uid) == (inode_of(client), os.getuid())
        finder.confirm(peer)


def test_a_unix_peers_inode_is_what_its_holder_sees(finder, tmp_path):
    with unix_listener(tmp_path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            peer = finder.find(accepted)
            assert (peer.inode, peer.uid) == (inode_of(client), os.getuid())
            finder.confirm(peer)


def test_the_one_socket_is_found_among_many(finder):
    with socket.create_server(("127.0.0.1", 0), backlog=300) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(200)]
        accepted = [listener.accept()[0] for _ in clients]
        by_port = {client.getsockname()[1]: inode_of(client) for client in clients}
        assert [finder.find(end).inode for end in accepted] == [by_port[end.getpeername()[1]] for end in accepted]
        for each in clients + accepted:
            each.close()


def test_no_privilege_is_needed_to_see_another_users_socket():
    with tcp_pair() as (client, accepted):

        def look(tell):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            peer = PeerFinder(SockDiag(), SystemClock()).find(accepted)
            tell(f"{peer.inode} {peer.uid}")

        with child(look) as (_, told):
            assert told.readline().split() == [str(inode_of(client)), str(os.getuid())]


def test_a_socket_that_a_fork_shares_is_one_inode_with_two_holders(finder):
    with tcp_pair() as (client, accepted):
        inode = finder.find(accepted).inode
        assert holders_of(inode) == [os.getpid()]
        with child(lambda tell: tell(inode_of(client))) as (pid, told):
            assert told.readline() == f"{inode}\n"
            assert sorted(holders_of(inode)) == sorted([os.getpid(), pid])
        assert holders_of(inode) == [os.getpid()]


def test_a_child_that_connects_is_the_only_holder(finder):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def connect(tell):
            end = socket.create_connection(listener.getsockname())
            tell(inode_of(end))
            return end

        with child(connect) as (pid, told), listener.accept()[0] as accepted:
            peer = finder.find(accepted)
            assert f"{peer.inode}\n" == told.readline()
            assert holders_of(peer.inode) == [pid]


@pytest.mark.parametrize("leave", ["close", "half", "reset"])
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_client_that_left_is_nobody(finder, tmp_path, leave, family):
    with unix_listener(tmp_path) if family == "unix" else socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket(listener.family)
        client.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            peer = finder.find(accepted)
            if leave == "half":
                client.shutdown(socket.SHUT_WR)
            else:
                if leave == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                client.close()
            select.select([accepted], [], [])
            with pytest.raises(PeerUnknownError, match="closed"):
                finder.confirm(peer)
            if (leave, family) != ("half", "unix"):  # it is still held, and can still be answered
                with pytest.raises(PeerUnknownError):
                    finder.find(accepted)
        client.close()


def test_a_socket_of_another_connection_on_the_same_port_is_not_taken_for_it(finder):
    # An address of its own: nobody else on the machine can take the port between the two connections.
    with tcp_pair(source="127.77.0.1") as (client, accepted):
        peer = finder.find(accepted)
        address = client.getsockname()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        with socket.socket() as second:
            second.bind(address)
            second.connect(accepted.getsockname())
            with pytest.raises(PeerUnknownError):
                finder.confirm(peer)


class Claimed:
    """A connection whose addresses are what a test says."""

    family = socket.AF_INET

    def __init__(self, peer, own):
        self.getpeername, self.getsockname = (lambda: peer), (lambda: own)


def test_a_listener_on_the_clients_port_is_not_the_client(diag, finder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        found = diag.tcp(Endpoints(plain("127.0.0.1"), address[1], plain("127.0.0.1"), 1))
        assert found.inode == inode_of(listener)  # the kernel falls back to it
        with pytest.raises(PeerUnknownError, match="network namespace"):
            finder.find(Claimed(address, ("127.0.0.1", 1)))


def test_what_nobody_has_is_not_found(diag):
    assert diag.tcp(Endpoints(plain("127.0.0.1"), 1, plain("127.0.0.1"), 2)) is None
    assert diag.unix_peer(2**32 - 1) is None


def test_a_unix_client_of_another_network_namespace_is_left_to_the_monitor(finder, tmp_path):
    with unix_listener(tmp_path) as listener:

        def connect(tell):
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            end = socket.socket(socket.AF_UNIX)
            end.connect(listener.getsockname())
            tell(inode_of(end))
            return end

        with child(connect) as (_, told):
            assert told.readline()
            with listener.accept()[0] as accepted:
                peer = finder.find(accepted)
                assert (peer.inode, peer.own_inode) == (0, inode_of(accepted))
                finder.confirm(peer)


def test_a_connection_that_is_not_from_loopback_is_refused():
    def try_it(tell):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        with IPRoute() as routes:
            loopback = routes.link_lookup(ifname="lo")[0]
            routes.addr("add", index=loopback, address="10.9.9.1", prefixlen=32)
            routes.link("set", index=loopback, state="up")
        finder = PeerFinder(SockDiag(), SystemClock())
        with tcp_pair("0.0.0.0", "10.9.9.1") as (_, accepted):  # noqa: S104 - inside an empty network namespace
            try:
                tell(f"found {finder.find(accepted).inode}")
            except PeerUnknownError as refused:
                tell(refused.message)

    with child(try_it) as (_, told):
        assert "loopback" in told.readline()


def test_a_tcp_connection_is_as_old_as_its_handshake_however_late_it_is_accepted(finder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        client = socket.create_connection(listener.getsockname())
        after_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        time.sleep(0.25)
        client.send(b"GET / HTTP/1.1\r\n")
        with client, listener.accept()[0] as accepted:
            opened_ns = finder.find(accepted).opened_ns
    assert before_ns - 30 * MS <= opened_ns <= after_ns


def test_a_program_that_is_executed_over_the_writer_is_younger_than_its_connection(finder):
    script = (
        "import os, socket, sys, time\n"
        "end = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "end.send(b'POST /v1/messages HTTP/1.1\\r\\n\\r\\n'); end.set_inheritable(True)\n"
        "print(time.clock_gettime_ns(time.CLOCK_BOOTTIME), flush=True)\n"
        "os.execv('/bin/sleep', ['claude', '600'])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", script, str(listener.getsockname()[1])]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as attacker:
            exec_ns = int(attacker.stdout.readline())
            while Path(f"/proc/{attacker.pid}/exe").readlink().name != "sleep":
                time.sleep(0.001)
            with listener.accept()[0] as accepted:
                peer = finder.find(accepted)
                assert holders_of(peer.inode) == [attacker.pid]
                assert peer.opened_ns < exec_ns
            attacker.kill()


def test_the_opener_of_a_unix_connection_is_known_by_pidfd(tmp_path):
    with unix_listener(tmp_path) as listener:

        def connect(tell):
            end = socket.socket(socket.AF_UNIX)
            end.connect(listener.getsockname())
            tell("connected")
            return end

        with child(connect) as (pid, told):
            told.readline()
            with listener.accept()[0] as accepted:
                pidfd = opener_pidfd(accepted)
                assert f"Pid:\t{pid}" in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
                os.close(pidfd)


def test_a_tcp_connection_has_no_opener():
    with tcp_pair() as (_, accepted):
        assert opener_pidfd(accepted) is None
