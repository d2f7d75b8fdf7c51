"""What takes root to set up: other users, namespaces, a set-user-id program, a look into the shim's memory."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from agent_broker.errors import RefusedError
from agent_broker.transport.agent_socket import AgentSocket, bind_agent_socket
from agent_broker.transport.frame import (
    MAX_FRAME_BYTES,
    ShimAnswer,
    ShimRequest,
    decode_answer,
    encode_answer,
    encode_request,
)
from agent_broker.transport.limits import Limits
from agent_broker.transport.peer import open_connector, prepare_listener
from tests.fakes import shim
from tests.fakes.agent_socket import METHODS
from tests.fakes.seqpacket import ScriptedBroker, connected, forked

pytestmark = pytest.mark.kernel

NOBODY, OTHER = 65534, 65533
REQUEST = encode_request(ShimRequest("get"))


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def method(request):
    return request.param


@pytest.fixture
def root(tmp_path_factory):
    """A root folder that every user can enter."""
    folder = tmp_path_factory.mktemp("root")
    temporary = Path(tempfile.gettempdir())
    for each in (folder, *folder.parents):  # a lane has a folder of its own in between
        if temporary not in each.parents:
            break
        each.chmod(0o755)
    (folder / "run/agent-broker").mkdir(parents=True)
    return folder


@contextlib.asynccontextmanager
async def serving(root, handle, **options):
    server = AgentSocket(root / "run/agent-broker/agent.sock", handle, **options)
    server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask_as(uid, *arguments, root):
    process = shim.start(*arguments, root=root, user=uid, group=uid, extra_groups=[])
    return await asyncio.to_thread(shim.finish, process)


async def test_every_user_is_known_as_itself(root, method):
    async def handle(_request, peer):
        return ShimAnswer(0, str(peer.uid).encode())

    async with serving(root, handle, method=method):
        answers = [await ask_as(uid, "get", root=root) for uid in (0, NOBODY, OTHER)]
    assert answers == [(0, str(uid).encode(), b"") for uid in (0, NOBODY, OTHER)]


async def test_one_user_does_not_keep_another_out(root):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_request, peer):
        if peer.uid == NOBODY:
            entered.set()
            await go_on.wait()
        return ShimAnswer(0)

    async with serving(root, handle, limits=Limits(per_uid=1)):
        first = asyncio.create_task(ask_as(NOBODY, "get", root=root))
        await entered.wait()
        assert (await ask_as(NOBODY, "get", root=root))[0] == 4
        assert (await ask_as(OTHER, "get", root=root))[0] == 0
        go_on.set()
        assert (await first)[0] == 0


NAMES_ITS_CHILD = """
import array, os, socket, struct, subprocess, sys
path, message = sys.argv[1], bytes.fromhex(sys.argv[2])
child = subprocess.Popen(["sleep", "60"])
client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
client.connect(path)
claim = struct.pack("iII", child.pid, 0, 0)
client.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim)])
sys.stdout.buffer.write(client.recv(70000))
child.kill()
"""


def lie_from_a_namespace(path, message: bytes) -> bytes:
    """As an ordinary user, in a pid namespace of its own, name a process in there as the writer."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-I", "-S", "-c"]
    result = subprocess.run(
        [*command, NAMES_ITS_CHILD, path, message.hex()],
        check=True,
        capture_output=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
    )
    return result.stdout


async def test_a_writer_that_names_a_process_of_its_own_namespace_is_refused(root, method):
    """The kernel lets it: the next test is the control."""
    seen = []

    async def handle(_request, peer):
        seen.append(peer.pid)
        return ShimAnswer(0)

    async with serving(root, handle, method=method) as server:
        answer = decode_answer(await asyncio.to_thread(lie_from_a_namespace, server.path, REQUEST))
    assert answer.exit_code == 3
    assert b"not the process that connected" in answer.stderr
    assert seen == []


def test_the_kernel_does_let_a_writer_name_another_process(root):
    path = root / "run/agent-broker/agent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        prepare_listener(listener, METHODS[0])
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        named = []

        def serve():
            connection, _ = listener.accept()
            with connection:
                _, attached, _, _ = connection.recvmsg(100, 100)
                named.append(struct.unpack("iII", attached[0][2])[0])
                named.append(struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
                connection.send(b".")
                for level, kind, data in attached[1:]:
                    if (level, kind) == (socket.SOL_SOCKET, 4):
                        os.close(struct.unpack("i", data)[0])

        async def both():
            await asyncio.gather(asyncio.to_thread(serve), asyncio.to_thread(lie_from_a_namespace, path, b"x"))

        asyncio.run(both())
    assert named[0] != named[1]


async def test_a_user_id_that_changed_since_the_connection_is_refused(root, method):
    """As after a program dropped or gained rights: whose request is it?"""
    seen = []

    async def handle(_request, peer):
        seen.append(peer.uid)
        return ShimAnswer(0)

    ours, theirs = socket.socketpair()

    async with serving(root, handle, method=method) as server:

        def connect_then_change():
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            client.connect(str(server.path))
            os.setresuid(NOBODY, NOBODY, NOBODY)
            client.send(REQUEST)
            theirs.send(client.recv(MAX_FRAME_BYTES))

        def run():
            with forked(connect_then_change):
                return ours.recv(MAX_FRAME_BYTES)

        with ours, theirs:
            answer = decode_answer(await asyncio.to_thread(run))
    assert answer.exit_code == 3
    assert seen == []


def test_a_connector_that_the_brokers_pid_namespace_does_not_show_is_refused(root, method):
    """The broker runs in a pid namespace of its own, the caller outside: it has no number in there."""
    path = root / "run/agent-broker/agent.sock"
    reading, writing = os.pipe()
    with bind_agent_socket(path, method=method) as listener, connected(path):
        outer = os.fork()
        if outer == 0:
            ctypes.CDLL(None).unshare(0x20000000)  # CLONE_NEWPID, for the next fork
            if os.fork() == 0:
                try:
                    open_connector(listener.accept()[0], method).close()
                except RefusedError as refusal:
                    os.write(writing, refusal.message.encode())
                os._exit(0)
            os.wait()
            os._exit(0)
        os.waitpid(outer, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert "not in a pid namespace below" in said.read()


def test_the_shim_sends_nothing_to_a_server_that_is_not_roots(root):
    (root / "run/agent-broker").chmod(0o777)
    path = root / "run/agent-broker/agent.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def listen_as_nobody():
        os.setresuid(NOBODY, NOBODY, NOBODY)
        listener.bind(str(path))
        listener.listen()

    with listener, forked(listen_as_nobody):
        code, out, err = shim.finish(shim.start("get", root=root, binary=shim.compiled(server_uid=0)))
    assert (code, out) == (4, b"")
    assert b"nothing was sent" in err


def test_a_program_with_anothers_rights_ignores_the_root_that_its_caller_chose(root):
    setuid = root / "agent-broker-shim"
    shutil.copy(shim.compiled(server_uid=2**32 - 2), setuid)
    os.chown(setuid, NOBODY, NOBODY)
    setuid.chmod(0o6755)
    chosen = shim.finish(shim.start("get", root=root, binary=shim.compiled(server_uid=2**32 - 2)))
    ignored = shim.finish(shim.start("get", root=root, binary=setuid))
    assert str(root).encode() in chosen[2]
    assert b" /run/agent-broker/agent.sock;" in ignored[2]


# include/uapi/linux/ptrace.h
_TRACEME, _CONT, _SETOPTIONS, _SYSCALL = 0, 7, 0x4200, 24
_OPTION_EXITKILL, _OPTION_EXIT, _EVENT_EXIT = 0x100000, 0x40, 6


def memory_of(pid: int) -> bytes:
    """Return all writable memory of a process."""
    found = b""
    process = Path(f"/proc/{pid}")
    with (process / "maps").open(encoding="ascii") as maps, (process / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            bounds, permissions, *_ = line.split()
            if permissions.startswith("rw"):
                start, end = (int(bound, 16) for bound in bounds.split("-"))
                memory.seek(start)
                found += memory.read(end - start)
    return found


def watched_shim(binary, protocol: str, root, held: list[bool], stdin: int) -> bytes:
    """Run a shim call by call; record after each whether its memory holds the canary, the last time at exit."""
    libc = ctypes.CDLL(None, use_errno=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(stdin, 0)
        os.dup2(writing, 1)
        libc.ptrace(_TRACEME, 0, None, None)
        os.execve(binary, ["agent-broker-shim", protocol], {"AGENT_BROKER_ROOT": str(root)})
    os.close(writing)
    os.waitpid(child, 0)
    libc.ptrace(_SETOPTIONS, child, None, ctypes.c_void_p(_OPTION_EXITKILL | _OPTION_EXIT))
    status = 0
    while status >> 8 != signal.SIGTRAP | _EVENT_EXIT << 8:
        libc.ptrace(_SYSCALL, child, None, None)
        _, status = os.waitpid(child, 0)
        held.append(CANARY in memory_of(child))
    libc.ptrace(_CONT, child, None, None)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as printed:
        return printed.read()


CANARY = b"CANARY-CANARY"
STORING = """
static const struct protocol PROTOCOLS[] = {{.name = "test-store", .reads_stdin = 1}};
"""


@contextlib.contextmanager
def answering(root, answer: ShimAnswer):
    def answer_one():
        with broker.accept() as connection:
            connection.recv(MAX_FRAME_BYTES)
            connection.send(encode_answer(answer))

    with ScriptedBroker(root) as broker:
        server = threading.Thread(target=answer_one)
        server.start()
        yield
        server.join()


def test_the_answer_is_in_memory_until_printed_and_wiped_at_the_end(root):
    held = []
    with answering(root / "inner", ShimAnswer(0, CANARY)), Path("/dev/null").open("rb") as empty:
        assert watched_shim(shim.compiled(), "get", root / "inner", held, empty.fileno()) == CANARY
    assert True in held
    assert held[-1] is False


def test_what_came_by_stdin_is_wiped_too(root):
    (root / "table.h").write_text(STORING)
    (root / "stdin").write_bytes(CANARY)
    binary = shim.compiled(f'PROTOCOL_TABLE="{root / "table.h"}"')
    held = []
    with answering(root / "inner", ShimAnswer(0)), (root / "stdin").open("rb") as stdin:
        assert watched_shim(binary, "test-store", root / "inner", held, stdin.fileno()) == b""
    assert True in held
    assert held[-1] is False


def test_no_other_process_of_the_user_may_look_into_it(root):
    with ScriptedBroker(root / "inner") as broker:
        broker.path.chmod(0o666)
        process = shim.start("get", root=root / "inner", user=NOBODY, group=NOBODY, extra_groups=[])
        with broker.accept() as connection:
            connection.recv(MAX_FRAME_BYTES)
            owner = Path(f"/proc/{process.pid}/mem").stat().st_uid
            connection.send(encode_answer(ShimAnswer(0)))
        assert shim.finish(process)[0] == 0
    assert owner == 0  # not dumpable: the kernel gives its files to root
