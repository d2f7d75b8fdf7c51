"""The control plane's sockets: who may open them, what they survive, and what never leaves through them."""

import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from agent_broker.errors import AgentBrokerError, MisuseError, RefusedError, UnavailableError
from agent_broker.ids import CredentialId
from agent_broker.monitor.incident import Incident
from agent_broker.transport.control_client import ControlClient
from agent_broker.transport.control_records import Missed
from agent_broker.vault.secret import Secret
from tests.fakes.control import FakeBroker, ServedBroker, decoy_opened, wait_for_followers

GROUP = 4712
STRANGER = 4711
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.fixture
def world() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def served(world: FakeBroker) -> Iterator[ServedBroker]:
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)  # other users must reach the sockets, so that it is the modes that stop them
        with ServedBroker(world, Path(root), read_gid=GROUP) as broker:
            yield broker


def can_open(path: Path, *, gid: int) -> bool:
    done = subprocess.run(
        ["/usr/bin/python3", "-c", CONNECT, path],
        user=STRANGER,
        group=gid,
        extra_groups=[],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 or b"PermissionError" in done.stderr
    return done.returncode == 0


def test_modes_and_owners(served: ServedBroker) -> None:
    admin, read = served.layout.admin_socket.stat(), served.layout.read_socket.stat()
    assert (stat.S_IMODE(admin.st_mode), admin.st_uid, admin.st_gid) == (0o600, 0, 0)
    assert (stat.S_IMODE(read.st_mode), read.st_uid, read.st_gid) == (0o660, 0, GROUP)


def test_the_kernel_lets_members_read_and_nobody_administer(served: ServedBroker) -> None:
    assert can_open(served.layout.read_socket, gid=GROUP)
    assert not can_open(served.layout.read_socket, gid=STRANGER)
    assert not can_open(served.layout.admin_socket, gid=GROUP)
    assert not can_open(served.layout.admin_socket, gid=STRANGER)


def test_a_stranger_is_told_so_at_once(served: ServedBroker) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from agent_broker.errors import RefusedError\n"
        "from agent_broker.transport.control_client import ControlClient\n"
        f"os.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})\n"
        "try:\n    ControlClient(Path(sys.argv[1]))\n"
        "except RefusedError as error:\n    print(error.rule, error.next_step)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, served.layout.admin_socket], capture_output=True, text=True, check=True
    )
    assert done.stdout == "control-socket run it as root (sudo)\n"


def test_the_reading_socket_serves_no_administration(served: ServedBroker, world: FakeBroker) -> None:
    with ControlClient(served.layout.read_socket) as client:
        assert client.status().uid == world.uid
        with pytest.raises(UnavailableError, match="the read-only one"):
            client.reload()
    assert world.reloads == 0


def test_nobody_there_and_dead_sockets_are_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        ControlClient(tmp_path / "none.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(UnavailableError, match="does not answer"):
        ControlClient(tmp_path / "dead.sock")


def test_a_broker_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        with ControlClient(tmp_path / "silent.sock") as client, pytest.raises(UnavailableError, match="in time"):
            client.status(timeout_s=0.2)


def test_a_second_broker_does_not_take_the_sockets(served: ServedBroker, world: FakeBroker) -> None:
    with (
        pytest.raises(UnavailableError, match="another broker answers"),
        ServedBroker(FakeBroker(), served.layout.root),
    ):
        pass
    with ControlClient(served.layout.admin_socket) as client:
        assert client.status().uid == world.uid


def test_a_dead_brokers_socket_is_replaced(tmp_path: Path, world: FakeBroker) -> None:
    for _ in range(2):
        with ServedBroker(world, tmp_path) as broker, ControlClient(broker.layout.admin_socket) as client:
            assert client.status().uid == world.uid
        broker.layout.admin_socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(broker.layout.admin_socket))


def test_what_is_not_a_socket_is_left_alone(tmp_path: Path, world: FakeBroker) -> None:
    path = tmp_path / "run/agent-broker/admin.sock"
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(UnavailableError, match="not a socket"), ServedBroker(world, tmp_path):
        pass
    assert path.read_text() == "precious"


def test_a_root_with_characters_that_uris_quote(tmp_path: Path, world: FakeBroker) -> None:
    root = tmp_path / "50%20 ü#?"
    with ServedBroker(world, root) as broker, ControlClient(broker.layout.read_socket) as client:
        assert client.status().uid == world.uid
        assert broker.layout.read_socket.is_socket()


def test_garbage_harms_nobody(served: ServedBroker) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(served.layout.read_socket))
            peer.sendall(garbage)
    with ControlClient(served.layout.read_socket) as client:
        assert client.status()


def test_a_message_beyond_the_limit_is_refused_and_the_next_one_served(served: ServedBroker, world: FakeBroker) -> None:
    with ControlClient(served.layout.admin_socket) as client:
        with pytest.raises(UnavailableError, match="too long"):
            client.put_original(CredentialId("claude/1/original/0"), "/x", Secret(bytes(33 << 20)))
        assert client.status()
    assert not world.originals


@pytest.mark.parametrize(
    "identifier", ["", "claude", "claude/", "claude/alice/key", "claude/-1/key", "/1/key", "claude/1/"]
)
def test_ids_of_a_wrong_form_stay_outside(served: ServedBroker, world: FakeBroker, identifier: str) -> None:
    with (
        ControlClient(served.layout.admin_socket) as client,
        pytest.raises(MisuseError, match="AGENT/OWNER_UID/NAME"),
    ):
        client.put_credential(CredentialId(identifier), "k", Secret(b"s"), {})
    assert not world.vault


def test_the_text_of_a_foreign_exception_never_leaves(
    served: ServedBroker, world: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    world.failure = KeyError("sk-ant-secret")
    with (
        caplog.at_level(logging.DEBUG),
        ControlClient(served.layout.read_socket) as client,
        pytest.raises(AgentBrokerError, match="failed inside") as raised,
    ):
        client.status()
    assert type(raised.value) is AgentBrokerError
    assert "secret" not in raised.value.explain() + caplog.text
    assert "KeyError" in caplog.text


def test_a_refusals_detail_never_leaves(served: ServedBroker, world: FakeBroker) -> None:
    world.failure = RefusedError("policy", "no", detail="rule 7 of alice")
    with ControlClient(served.layout.read_socket) as client, pytest.raises(RefusedError) as raised:
        client.status()
    assert "alice" not in raised.value.detail


def decoded(alert: bytes | Missed) -> Incident | Missed:
    return alert if isinstance(alert, Missed) else msgspec.json.decode(alert, type=Incident)


def test_followers_get_each_alert_once_in_order(served: ServedBroker, world: FakeBroker) -> None:
    world.incidents.append(decoy_opened(what="stored"))
    with (
        ControlClient(served.layout.read_socket) as one,
        ControlClient(served.layout.read_socket) as two,
        one.alerts(10, follow=True) as first,
        two.alerts(0, follow=True) as second,
    ):
        wait_for_followers(world, 2)
        for number in range(50):
            world.publish(decoy_opened(what=f"number {number}"))
        assert [decoded(next(first)) for _ in range(51)] == world.incidents
        assert [decoded(next(second)) for _ in range(50)] == world.incidents[1:]
    wait_for_followers(world, 0)


def test_leaving_the_stream_ends_it_while_the_connection_lives(served: ServedBroker, world: FakeBroker) -> None:
    with ControlClient(served.layout.read_socket) as client:
        with client.alerts(0, follow=True):
            wait_for_followers(world, 1)
        wait_for_followers(world, 0)
        assert client.status()


def test_a_slow_follower_is_told_what_it_missed(served: ServedBroker, world: FakeBroker) -> None:
    world.follower_capacity = 0
    with ControlClient(served.layout.read_socket) as client, client.alerts(0, follow=True) as stream:
        world.publish(decoy_opened())
        assert next(stream) == Missed(1)


def test_a_follower_learns_that_the_broker_ended(served: ServedBroker, world: FakeBroker) -> None:
    with ControlClient(served.layout.read_socket) as client, client.alerts(0, follow=True) as stream:
        wait_for_followers(world, 1)
        stopper = threading.Thread(target=served.stop)
        stopper.start()
        with pytest.raises(UnavailableError, match="went away"):
            next(stream)
        stopper.join()


DROPPER = """
import asyncio, os, sys
from pathlib import Path
from tests.fakes.control import FakeBroker
from agent_broker.transport.control_server import ControlServer

async def main():
    server = ControlServer(FakeBroker())
    root = Path(sys.argv[1])
    await server.start(admin=root / "a", read=root / "r", read_gid=4712)
    os.setgroups([])
    os.setresgid(4711, 4711, 4711)
    os.setresuid(4711, 4711, 4711)
    print("dropped", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def statuses_of_threads(pid: int) -> list[dict[str, str]]:
    """Of those that are there: gRPC's come and go."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = (task / "status").read_text().splitlines()
            found.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
    return found


def test_dropping_privileges_drops_those_of_grpcs_threads_too(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DROPPER, tmp_path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"dropped\n"
            with ControlClient(tmp_path / "a") as client:  # answers, and so has all the threads it will use
                assert client.status()
                tasks = statuses_of_threads(process.pid)
                assert len(tasks) > 1
                for fields in tasks:
                    assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {"4711"}
                    assert fields["Groups"].strip() == ""
                    assert [int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [0] * 4
        finally:
            process.kill()


def test_the_socket_is_never_open_wider_than_in_the_end(tmp_path: Path, world: FakeBroker) -> None:
    """Watches the folder while brokers come and go, under a careless umask."""
    path = tmp_path / "run/agent-broker/admin.sock"
    seen: set[int] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                seen.add(stat.S_IMODE(path.lstat().st_mode))
            except FileNotFoundError:
                time.sleep(0)

    umask = os.umask(0)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(10):
            with ServedBroker(world, tmp_path):
                pass
    finally:
        done.set()
        watcher.join()
        os.umask(umask)
    assert seen == {0o600}
