"""Incidents in the journal of a real systemd-journald: every field, whatever texts an attacker chose, in order."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent_broker.audit.sinks.journald import MESSAGE_ID, Journald, encode, fields_of
from agent_broker.errors import RefusedError, UnavailableError
from tests.fakes.journald import real_journald
from tests.fakes.receivers import World, a_full_incident, an_incident

OURS = f"MESSAGE_ID={MESSAGE_ID}"


@pytest.fixture
def journald():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with real_journald(Path(folder)) as made:
            yield made


@pytest.fixture
def sink(journald):
    made = Journald(journald.socket, severity="info")
    yield made
    made._socket.close()


async def test_every_field_arrives_and_no_text_adds_one(journald, sink):
    journald.start()
    incident = a_full_incident()
    await sink.deliver(incident, 7)
    (entry,) = journald.entries(OURS)
    assert {name: entry.get(name) for name in fields_of(incident, 7)} == fields_of(incident, 7)
    assert entry["PRIORITY"] == "2"
    assert entry["AGENT_BROKER_PATH"] == incident.path
    assert entry["AGENT_BROKER_KIND"] == "decoy-opened"
    assert entry["AGENT_BROKER_LINEAGE"].splitlines()[0] == f"self 4008 /usr/bin/scanner {incident.process_sha256}"
    assert entry["_PID"] == str(os.getpid())


async def test_one_that_is_too_long_for_a_datagram_arrives_whole(journald, sink):
    journald.start()
    changes = tuple(f"+ line {number} {'x' * 90}" for number in range(4_000))
    await sink.deliver(an_incident(changes=changes), 1)
    (entry,) = journald.entries(OURS)
    assert entry["AGENT_BROKER_CHANGES"] == "\n".join(changes)
    assert len("\n".join(changes)) > 300_000


async def test_what_was_recorded_while_it_was_down_arrives_in_order_once_it_is_up(journald, sink, tmp_path):
    world = World(tmp_path)
    async with world.delivering(sink) as dispatch:
        await world.record(0, 300)
        while dispatch.status()[0].state == "ok":
            await asyncio.sleep(0)
        assert dispatch.status()[0].last_error == "journald does not take messages: No such file or directory"
        journald.start()
        while dispatch.status()[0].backlog:
            await asyncio.sleep(0.01)
    world.log.close()
    entries = journald.entries(OURS)
    assert [entry["MESSAGE"] for entry in entries] == [f"warning: incident {number}" for number in range(300)]
    assert [entry["AGENT_BROKER_NUMBER"] for entry in entries] == [str(number) for number in range(1, 301)]


def test_the_brokers_user_can_write_there_too(journald):
    """Another user than root: its long messages need a sealed file."""
    journald.start()
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from agent_broker.audit.sinks.journald import Journald\n"
        "from tests.fakes.receivers import an_incident\n"
        "import os; os.setresuid(64123, 64123, 64123)\n"
        "sink = Journald(Path(sys.argv[1]), severity='info')\n"
        "asyncio.run(sink.deliver(an_incident(changes=('x' * 400_000,)), 1))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program, journald.socket], check=True, env=environment)
    (entry,) = journald.entries(OURS)
    assert entry["_UID"] == "64123"
    assert len(entry["AGENT_BROKER_CHANGES"]) == 400_000


async def test_a_full_socket_is_waited_for():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody_reads:
            nobody_reads.bind(str(path))
            sink = Journald(path, severity="info")
            with pytest.raises(UnavailableError, match="Resource temporarily unavailable"):
                for number in range(100_000):
                    await sink.deliver(an_incident(), number)
            await sink.close()


def test_names_of_fields_are_checked():
    for name in ("lower", "A B", "A=B", "A\nB", "", "Ä"):
        with pytest.raises(RefusedError):
            encode({name: "x"})


def test_what_is_empty_is_left_out():
    fields = fields_of(msgspec.structs.replace(an_incident(), path="", lineage=()), 1)
    assert "AGENT_BROKER_PATH" not in fields
    assert "" not in fields.values()
