"""Incidents as OTLP log records: through a real collector, and against the protocol's own service over TLS and not."""

import asyncio
import subprocess

import grpc
import pytest

from agent_broker.audit.sinks.otlp import Otlp, read_headers
from agent_broker.errors import IntegrityError, MisuseError, RefusedError, UnavailableError
from tests.fakes.collector import logs_receiver, rotel, values_of
from tests.fakes.ports import free_port
from tests.fakes.receivers import World, a_full_incident, a_whole_incident, an_incident

SECRET = "Bearer hunter2"


@pytest.fixture
async def sinks():
    made = []

    def make(port, **options):
        made.append(Otlp(f"http://127.0.0.1:{port}", severity="info", **options))
        return made[-1]

    yield make
    for sink in made:
        await sink.close()


async def test_a_real_collector_takes_them_and_hands_them_on(sinks, tmp_path):
    collector, behind = free_port(), free_port()
    world = World(tmp_path)
    async with logs_receiver(behind) as receiver, world.delivering(sinks(collector)) as dispatch:
        await world.record(0, 50)  # nobody listens yet
        while dispatch.status()[0].state == "ok":
            await asyncio.sleep(0)
        assert dispatch.status()[0].last_error == "the collector answered UNAVAILABLE"
        with rotel(collector, behind):
            await world.log.record(a_full_incident(50))
            while len(receiver.records) < 51:
                await asyncio.sleep(0.02)
    world.log.close()
    ordered = sorted(receiver.records, key=lambda record: values_of(record.attributes)["agent_broker.incident.number"])
    assert [record.body.string_value for record in ordered] == [f"incident {number}" for number in range(51)]
    full = values_of(ordered[-1].attributes)
    assert full["file.path"] == a_full_incident().path
    assert full["process.pid"] == 4008
    assert full["process.command_args"] == a_full_incident().offender.command
    assert full["agent_broker.attack"] == ("T1552.001", "T1083")
    assert (ordered[-1].severity_number, ordered[-1].severity_text) == (21, "FATAL")
    assert ordered[-1].time_unix_nano == a_full_incident(50).time_ns
    assert receiver.resources[0]["service.name"] == "agent-broker"


def expected_of(incident):
    return {
        "agent_broker.incident.id": incident.id,
        "agent_broker.incident.revision": 2,
        "agent_broker.incident.number": 7,
        "agent_broker.incident.kind": "decoy-opened",
        "agent_broker.incident.action": "served-decoy",
        "agent_broker.incident.count": 12,
        "agent_broker.incident.first_ns": incident.time_ns,
        "agent_broker.incident.first_boot_ns": incident.boot_ns,
        "agent_broker.tier": "observe+",
        "agent_broker.agent": "claude",
        "agent_broker.next_step": "look at it",
        "agent_broker.response": incident.response,
        "agent_broker.grants": incident.grants,
        "agent_broker.role": "decoy",
        "agent_broker.holds": "anthropic-api-key",
        "agent_broker.changes": incident.changes,
        "agent_broker.paths": incident.paths,
        "agent_broker.attack": incident.frameworks.attack,
        "agent_broker.atlas": incident.frameworks.atlas,
        "agent_broker.owasp": incident.frameworks.owasp,
        "agent_broker.saif": incident.frameworks.saif,
        "session.id": incident.session,
        "file.path": incident.path,
    }


async def test_every_field_of_a_whole_incident_arrives(sinks):
    incident, port = a_whole_incident(), free_port()
    offender = incident.offender
    async with logs_receiver(port) as receiver:
        await sinks(port).deliver(incident, 7)
    (record,) = receiver.records
    found = values_of(record.attributes)

    assert record.body.string_value == incident.what
    assert record.time_unix_nano == incident.last_ns
    assert found == expected_of(incident) | {
        "agent_broker.lineage": (
            f"self 4008 /usr/bin/scanner {'ab' * 32}",
            "exec 4008 /usr/bin/scanner",
            f"fork 4444 /usr/bin/scanner {'cd' * 32}",
            f"fork 4001 /usr/bin/scanner {'ef' * 32}",
        ),
        "agent_broker.taints": ("4444 somebody traced it",),
        "agent_broker.process.executable.sha256": incident.process_sha256,
        "agent_broker.process.package": offender.package,
        "process.command_args": offender.command,
        "process.working_directory": offender.cwd,
        "process.executable.path": "/usr/bin/scanner",
        "process.pid": 4008,
        "process.parent_pid": 4444,
        "process.user.id": 1000,
        "container.id": offender.container,
    }


async def test_headers_go_with_each_call_and_into_no_text(sinks):
    port = free_port()
    sink = sinks(port, headers=(("authorization", SECRET),))
    async with logs_receiver(port) as receiver:
        await sink.deliver(an_incident(), 1)
        assert receiver.headers[0]["authorization"] == SECRET
        assert receiver.records[0].event_name == "agent_broker.incident"
        receiver.fails_with = grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(UnavailableError) as raised:
            await sink.deliver(an_incident(), 2)
    assert "hunter2" not in f"{raised.value.explain()} {raised.value!r} {raised.value.__cause__!r} {sink!r}"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_only_what_can_never_be_taken_is_given_up(sinks, code):
    port = free_port()
    async with logs_receiver(port) as receiver:
        receiver.fails_with = code
        expected = RefusedError if code is grpc.StatusCode.INVALID_ARGUMENT else UnavailableError
        with pytest.raises(expected, match=f"the collector answered {code.name}"):
            await sinks(port).deliver(an_incident(), 1)


async def test_a_rejected_record_is_given_up(sinks):
    port = free_port()
    async with logs_receiver(port) as receiver:
        receiver.rejects = 1
        with pytest.raises(RefusedError, match="rejected the record"):
            await sinks(port).deliver(an_incident(), 1)


async def test_a_collector_that_accepts_and_never_answers_delays_no_record(sinks, tmp_path):
    port = free_port()
    world = World(tmp_path)
    async with logs_receiver(port) as receiver, world.delivering(sinks(port)) as dispatch:
        receiver.hangs = True
        await world.record(0, 1)
        while not receiver.headers:
            await asyncio.sleep(0)
        await world.record(1, 300)  # would never return if it waited for the collector
        assert dispatch.status()[0].backlog == 301
        assert len(receiver.headers) == 1
    world.log.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True)
    return (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()


async def test_tls_with_an_authority_of_ones_own(certificate):
    key, chain = certificate
    port = free_port()
    async with logs_receiver(port, grpc.ssl_server_credentials([(key, chain)])) as receiver:
        trusting = Otlp(f"https://127.0.0.1:{port}", severity="info", roots=chain)
        await trusting.deliver(an_incident(3), 1)
        await trusting.close()
        assert receiver.bodies() == ["incident 3"]
        doubting = Otlp(f"https://127.0.0.1:{port}", severity="info")
        with pytest.raises(UnavailableError, match="UNAVAILABLE"):
            await doubting.deliver(an_incident(4), 1)
        await doubting.close()
        assert receiver.bodies() == ["incident 3"]


def write(folder, text, mode=0o600):
    path = folder / "headers"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_headers_are_read_from_a_file_of_roots(tmp_path):
    path = write(tmp_path, "# a comment\n\nAuthorization:  Bearer a:b \nx-scope-orgid: 7\n")
    assert read_headers(path) == (("authorization", "Bearer a:b"), ("x-scope-orgid", "7"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path, mode):
    with pytest.raises(IntegrityError, match="others than root can read it"):
        read_headers(write(tmp_path, "a: hunter2\n", mode))


@pytest.mark.parametrize(
    "line", ["hunter2", "a b: hunter2", ": hunter2", "x-bin: hunter2", "a: hunter2\x07", "a: \u00e4"]
)
def test_a_malformed_line_is_named_and_not_quoted(tmp_path, line):
    with pytest.raises(MisuseError, match=r"headers:2: this line is not NAME: VALUE") as raised:
        read_headers(write(tmp_path, f"ok: 1\n{line}\n"))
    assert "hunter2" not in raised.value.explain()
