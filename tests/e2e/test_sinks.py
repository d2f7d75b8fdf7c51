"""The shipped daemons with every sink on: what a process did to a decoy reaches each receiver, also after a SIGKILL."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent_broker.audit.sinks.journald import MESSAGE_ID
from tests.bench.stage import BROKER, OWNER, stage
from tests.fakes.collector import free_roots_port, logs_receiver, values_of
from tests.fakes.journald import real_journald
from tests.fakes.posts import Service

BROKER_COMMAND = Path(sys.executable).with_name("agent-broker")

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

_CONFIG = """
[alerts.journald]
enabled = true

[alerts.ocsf]
path = "{folder}/log/alerts.jsonl"

[alerts.otlp]
endpoint = "http://127.0.0.1:{otlp}"
headers_file = "{folder}/headers"

[alerts.apprise]
urls_file = "{folder}/urls"
"""


@pytest.fixture
def posts():
    made = Service()
    yield made
    made.end()


@pytest.fixture
def world(posts):
    with stage() as made:
        made.otlp_port = free_roots_port()
        with made.layout.config_file.open("a") as config:
            config.write(_CONFIG.format(folder=made.folder, otlp=made.otlp_port))
        for name, text in (("headers", "x-secret: hunter2"), ("urls", f"json://127.0.0.1:{posts.port}/hunter2")):
            (made.folder / name).write_text(text)
            (made.folder / name).chmod(0o600)
        made.systemd = made.layout.root / "run/systemd"
        made.systemd.mkdir(parents=True)
        yield made


def read(decoy):
    subprocess.run(
        ["/bin/cat", decoy],
        user=OWNER, group=OWNER, extra_groups=[], cwd="/", stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def sinks(world):
    command = [BROKER_COMMAND, "--root", world.layout.root, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {each["name"]: each for each in json.loads(done.stdout)["broker"]["sinks"]}


def findings(world):
    return world.layout.root.parent / "log/alerts.jsonl"


def evidence(world):
    lines = findings(world).read_bytes().splitlines() if findings(world).exists() else []
    return [json.loads(line)["evidences"][0]["file"]["path"] for line in lines]


def paths(collector):
    return [values_of(each.attributes).get("file.path") for each in collector.records]


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.05)


async def test_every_receiver_is_told_and_what_one_missed_comes_after_a_kill(world, posts):
    first, second = (str(decoy) for decoy in world.decoys[:2])
    with real_journald(world.systemd) as journald:
        journald.start()
        world.have(monitor=True, broker=True)
        read(first)
        await until(lambda: first in evidence(world) and posts.posts)
        await until(lambda: sinks(world)["otlp"]["state"] == "waiting")
        assert sinks(world)["otlp"]["last_error"] == "the collector answered UNAVAILABLE"

        os.kill(world.broker.pid, signal.SIGKILL)
        world.have(monitor=True, broker=False)
        async with logs_receiver(world.otlp_port) as collector:
            await asyncio.to_thread(world.have, monitor=True, broker=True)
            read(second)
            await until(lambda: {first, second} <= set(paths(collector)))
            await until(lambda: second in evidence(world) and len(posts.posts) >= 2)
            await until(lambda: {each["backlog"] for each in sinks(world).values()} == {0})
        entries = journald.entries(f"MESSAGE_ID={MESSAGE_ID}", f"_UID={BROKER}")

    told = [values_of(each.attributes) for each in collector.records]
    assert [each["agent_broker.incident.number"] for each in told] == list(range(1, len(told) + 1))
    assert told[0]["process.executable.path"] == "/bin/cat"
    assert collector.headers[0]["x-secret"] == "hunter2"
    assert [entry["AGENT_BROKER_PATH"] for entry in entries if "AGENT_BROKER_PATH" in entry] == evidence(world)
    facts = findings(world).stat()
    assert (facts.st_uid, stat.S_IMODE(facts.st_mode)) == (BROKER, 0o640)
    said = "".join(log.read_text() for log in world.layout.root.glob("*.log"))
    assert "ready, as user" in said
    assert "hunter2" not in said + str(sinks(world))
