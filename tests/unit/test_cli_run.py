"""``agent-broker run``: what the agent is started with, and that nothing else of it stays."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_broker.cli import run
from agent_broker.cli.run import agent_environment
from agent_broker.config.layout import Layout
from agent_broker.errors import RefusedError
from agent_broker.identity.environment import allow
from agent_broker.identity.registry import Enrollment, RoleRule, save_enrollment
from agent_broker.ids import AgentName, Uid
from agent_broker.transport.agent_socket import AgentSocket
from agent_broker.transport.frame import ShimAnswer
from tests.fakes import shim

PHANTOM = "agent-broker-phantom-abcdefghijklmnopqrstuvwxyz234567"
SHOW = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(k + b'=' + v for k, v in os.environb.items()))"
PROGRAM = (
    "import sys\nfrom pathlib import Path\nfrom agent_broker.cli import run\nfrom agent_broker.cli.main import main\n"
    "run.SHIM = Path(sys.argv[1])\nsys.exit(main(sys.argv[2:]))\n"
)


@contextlib.contextmanager
def broker(root: Path, answer) -> Iterator[list]:
    """The real socket, with ``answer`` in the broker's place."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    seen: list = []

    async def handle(request, _peer):
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def start():
        (root / "run/agent-broker").mkdir(parents=True)
        server = AgentSocket(root / "run/agent-broker/agent.sock", handle)
        server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield seen
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def start(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(shim.compiled()), "--root", str(root), "run", *words]
    inherited = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    return subprocess.run(command, env=inherited | environment, capture_output=True, check=False)


def test_the_agent_gets_the_phantom_and_the_socket_and_no_real_credential(tmp_path: Path) -> None:
    with broker(tmp_path, ShimAnswer(0, f"{PHANTOM}\n".encode())) as seen:
        done = start(
            tmp_path,
            "--",
            sys.executable,
            "-c",
            SHOW,
            ANTHROPIC_API_KEY="sk-ant-api03-genuine",
            CLAUDE_CODE_OAUTH_TOKEN="sk-ant-oat01-genuine",
            NODE_OPTIONS="--require=/evil.js",
            KEPT="é\udcff",
        )
    assert done.returncode == 0, done.stderr
    environment = dict(entry.split(b"=", 1) for entry in done.stdout.split(b"\0"))
    assert environment[b"ANTHROPIC_AUTH_TOKEN"] == PHANTOM.encode()
    assert environment[b"ANTHROPIC_UNIX_SOCKET"] == bytes(tmp_path / "run/agent-broker/inject.sock")
    assert environment[b"ANTHROPIC_BASE_URL"] == b"http://agent-broker.invalid"
    assert environment[b"KEPT"] == "é".encode() + b"\xff"
    assert not {b"ANTHROPIC_API_KEY", b"CLAUDE_CODE_OAUTH_TOKEN", b"NODE_OPTIONS"} & environment.keys()
    assert b"GRPC_VERBOSITY" not in environment
    assert b"genuine" not in done.stdout + done.stderr
    assert b"left out of the environment: ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN, NODE_OPTIONS" in done.stderr
    assert [(request.protocol, request.argv, request.stdin) for request in seen] == [("claude-api-key-helper", (), b"")]


def test_the_account_that_is_named_is_asked_for(tmp_path: Path) -> None:
    with broker(tmp_path, ShimAnswer(0, PHANTOM.encode())) as seen:
        done = start(tmp_path, "--as", "private", "/bin/echo", "--as", "started")
    assert done.stdout == b"--as started\n"
    assert [(request.protocol, request.argv) for request in seen] == [("claude-api-key-helper", ("private",))]


def test_no_parent_stays_and_signals_are_as_a_shell_leaves_them(tmp_path: Path) -> None:
    with broker(tmp_path, ShimAnswer(0, PHANTOM.encode())):
        command = [sys.executable, "-c", PROGRAM, str(shim.compiled()), "--root", str(tmp_path), "run", "--"]
        with subprocess.Popen(
            [*command, "/bin/sh", "-c", "echo $$ $PPID; grep SigIgn /proc/self/status; exit 7"], stdout=subprocess.PIPE
        ) as process:
            said = process.stdout.read().split()
    assert process.returncode == 7
    assert [int(number) for number in said[:2]] == [process.pid, os.getpid()]
    ignored = int(said[3], 16)
    assert not ignored & (1 << (13 - 1))  # SIGPIPE


def test_options_of_the_command_are_the_commands(tmp_path: Path) -> None:
    with broker(tmp_path, ShimAnswer(0, PHANTOM.encode())):
        done = start(tmp_path, "/bin/echo", "--help", "--version", "--", "-p")
    assert done.stdout == b"--help --version -- -p\n"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (RefusedError("owner", "not for you", next_step="ask root"), 3, b"agent-broker: not for you\n  ask root\n"),
        (ShimAnswer(4, b"", b"agent-broker: the vault is closed\n"), 4, b"agent-broker: the vault is closed\n"),
        (ShimAnswer(9, b"sk-not-a-phantom", b""), 1, b"agent-broker: the broker gave no phantom\n"),
        (ShimAnswer(3, b"", b"agent-broker: \x1b[2J\n"), 3, b"agent-broker: \\x1b[2J\n"),
    ],
)
def test_without_a_phantom_nothing_is_started(tmp_path: Path, answer, code: int, said: bytes) -> None:
    with broker(tmp_path, answer):
        done = start(tmp_path, "--", "/bin/echo", "started")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", said)


def test_a_broker_that_is_down_is_unavailable_at_once(tmp_path: Path) -> None:
    done = start(tmp_path, "--", "/bin/echo", "started")
    assert (done.returncode, done.stdout) == (4, b"")
    assert done.stderr.startswith(b"agent-broker: ")


def test_an_answer_that_is_no_phantom_is_not_put_into_an_environment(tmp_path: Path) -> None:
    for number, answer in enumerate(
        (b"", b"two words", b"\xff\xfe", b"sk-ant-api03-genuine", PHANTOM.encode() + b"\0")
    ):
        with broker(tmp_path / str(number), ShimAnswer(0, answer)):
            done = start(tmp_path / str(number), "--", "/bin/echo", "started")
        assert (done.returncode, done.stdout) == (1, b""), answer


@pytest.mark.parametrize("command", ["/nowhere/claude", "no-such-command-here", "/etc/passwd"])
def test_a_command_that_cannot_be_started_is_misuse(tmp_path: Path, command: str) -> None:
    with broker(tmp_path, ShimAnswer(0, PHANTOM.encode())):
        done = start(tmp_path, "--", command)
    assert done.returncode == 2
    assert b"can't be started" in done.stderr
    assert PHANTOM.encode() not in done.stderr


def test_what_taints_or_leads_past_the_broker_is_left_out_by_name_only() -> None:
    dirty = {
        "LD_PRELOAD": "/evil.so",
        "BUN_OPTIONS": "--preload=/evil.js",
        "ANTHROPIC_BASE_URL": "http://evil",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "PATH": "/bin",
        "HOME": "/home/alice",
        "ANTHROPIC_MODEL": "opus",
    }
    clean, left_out = agent_environment(dirty, Layout(Path("/r")), PHANTOM)
    assert left_out == ("ANTHROPIC_BASE_URL", "BUN_OPTIONS", "CLAUDE_CODE_USE_BEDROCK", "LD_PRELOAD")
    assert clean == {
        "PATH": "/bin",
        "HOME": "/home/alice",
        "ANTHROPIC_MODEL": "opus",
        "ANTHROPIC_UNIX_SOCKET": "/r/run/agent-broker/inject.sock",
        "ANTHROPIC_BASE_URL": "http://agent-broker.invalid",
        "ANTHROPIC_AUTH_TOKEN": PHANTOM,
        "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": "1",
    }
    assert "evil" not in " ".join(left_out)


def test_a_second_run_inside_the_first_changes_nothing() -> None:
    layout = Layout()
    once, _ = agent_environment({"PATH": "/bin"}, layout, PHANTOM)
    twice, _ = agent_environment(once, layout, PHANTOM)
    assert once == twice


def test_the_shim_lies_beside_the_package() -> None:
    assert Path(run.__file__).parents[1] / "shim/agent-broker-shim" == run.SHIM


def test_what_the_operator_allowed_stays_with_exactly_its_value() -> None:
    allowed = frozenset({allow(b"LD_LIBRARY_PATH", b"/opt/cuda")})
    for value, kept in (("/opt/cuda", True), ("/opt/cuda:/tmp", False)):
        environment, left_out = agent_environment(
            {"LD_LIBRARY_PATH": value, "LD_PRELOAD": "x"}, Layout(Path("/")), PHANTOM, allowed
        )
        assert ("LD_LIBRARY_PATH" in environment) == kept
        assert ("LD_LIBRARY_PATH" in left_out) != kept
        assert "LD_PRELOAD" in left_out


def test_the_allowances_are_those_of_the_caller_s_own_enrolments(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.registry_folder.mkdir(parents=True)
    for uid, value in ((os.getuid(), b"mine"), (os.getuid() + 1, b"another's")):
        one = Enrollment(
            agent=AgentName("claude"), owner_uid=Uid(uid), owner_name="x", binaries=(), role=RoleRule(("claude",)),
            decoys=(), credentials=(), enrolled_ns=0, allowed_environment=(allow(b"LD_PRELOAD", value),),
        )  # fmt: skip
        save_enrollment(layout.registry_folder, one)
    assert run._allowed(layout) == {allow(b"LD_PRELOAD", b"mine")}
    assert run._allowed(Layout(tmp_path / "x")) == frozenset()
