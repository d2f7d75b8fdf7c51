"""``alerts --follow``: each alert the moment it is recorded, what was missed, and how it ends."""

import json
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent_broker.errors import UnavailableError
from tests.fakes.control import NOON_NS, FakeBroker, ServedBroker, decoy_opened, wait_for_followers


@pytest.fixture
def world() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def served(world: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedBroker]:
    monkeypatch.setenv("COLUMNS", "80")
    with tempfile.TemporaryDirectory() as root, ServedBroker(world, Path(root)) as broker:
        yield broker


@contextmanager
def following(root: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    program = "import sys; from agent_broker.cli.main import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", program, "--root", str(root), "alerts", "--follow", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    ) as process:
        try:
            assert process.stderr.readline() == "following alerts; press Ctrl-C to stop\n"
            yield process
        finally:
            process.kill()


def test_alerts_followed_come_at_once_and_ctrl_c_ends(served: ServedBroker, world: FakeBroker) -> None:
    with following(served.layout.root, "--json") as process:
        for number in range(3):
            world.publish(decoy_opened(what=f"number {number}"))
            assert json.loads(process.stdout.readline())["what"] == f"number {number}"
        process.send_signal(2)
        assert process.wait() == 130
        assert process.stderr.read() == ""


def test_a_follower_gets_a_line_at_once_and_a_short_one_for_more_of_the_same(
    served: ServedBroker, world: FakeBroker
) -> None:
    first = decoy_opened()
    with following(served.layout.root) as process:
        world.publish(first)
        assert process.stdout.readline().split() == ["time", "severity", "kind", "who", "path", "n", "id"]
        assert process.stdout.readline().split()[-2:] == ["1", first.id[:7]]
        world.publish(replace(first, revision=1, count=1234, last_ns=NOON_NS + 60 * 10**9))
        assert process.stdout.readline().startswith(f"... {first.id[:7]} 1,234 times until ")
        world.publish(decoy_opened(severity="info"))
        assert " info " in process.stdout.readline()
        world.publish(replace(first, revision=2, count=1235, severity="info"))
        assert process.stdout.readline().startswith(f"... {first.id[:7]} 1,235 times")


def test_an_incident_that_grew_more_severe_is_a_whole_line_again(served: ServedBroker, world: FakeBroker) -> None:
    first = decoy_opened(severity="info")
    with following(served.layout.root) as process:
        world.publish(first)
        assert process.stdout.readline() != process.stdout.readline()
        world.publish(replace(first, revision=1, severity="critical"))
        assert " critical decoy-opened " in process.stdout.readline()


def test_a_follower_says_what_it_missed_and_that_the_broker_went(served: ServedBroker, world: FakeBroker) -> None:
    world.follower_capacity = 0
    with following(served.layout.root) as process:
        wait_for_followers(world, 1)
        world.publish(decoy_opened())
        assert process.stderr.readline().startswith("1 alert came too fast")
        served.stop()
        assert process.wait() == UnavailableError.exit_code
        assert process.stderr.read().startswith("agent-broker: the broker went away\n")


def on_a_terminal(root: Path, **environment: str) -> str:
    """What ``alerts`` writes to a terminal of 80 columns."""
    program = "import sys; from agent_broker.cli.main import main; sys.exit(main())"
    ours, theirs = pty.openpty()
    plain = {name: os.environ[name] for name in os.environ if name not in {"NO_COLOR", "TERM", "COLUMNS"}}
    command = [sys.executable, "-c", program, "--root", str(root), "alerts"]
    settings = {**plain, "TERM": "xterm", "COLUMNS": "80", **environment}
    subprocess.run(command, stdout=theirs, env=settings, check=True)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # a terminal whose other end is closed says EIO
        while piece := os.read(ours, 4096):
            said += piece
    os.close(ours)
    return said.decode()


def test_colours_are_for_terminals_whose_user_wants_them(served: ServedBroker, world: FakeBroker) -> None:
    world.incidents = [decoy_opened()]
    root = served.layout.root
    coloured = on_a_terminal(root)
    assert "\x1b[1;31mcritical\x1b[0m" in coloured
    assert "\x1b" not in on_a_terminal(root, NO_COLOR="1") + on_a_terminal(root, TERM="dumb")
    assert on_a_terminal(root, NO_COLOR="") == coloured
