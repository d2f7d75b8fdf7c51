"""The control plane's port: the fake world answers alike, asked directly or through gRPC on real sockets."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_broker.audit.acks import Alert
from agent_broker.errors import IntegrityError, MisuseError, RefusedError, UnavailableError
from agent_broker.ids import AgentName, CredentialId, Pid, Uid
from agent_broker.monitor.incident import Incident
from agent_broker.transport import control_pb2 as pb
from agent_broker.transport.control_client import ControlClient
from agent_broker.transport.control_records import (
    Acknowledgement,
    AgentTarget,
    AlertFilter,
    Everything,
    OneFreeze,
    ProcessTarget,
    Thawed,
)
from agent_broker.vault.secret import Secret
from tests.fakes.control import OWNER, FakeBroker, ServedBroker, decoy_opened, enrollment

CLAUDE = AgentName("claude")
OAUTH = CredentialId("claude/4711/oauth")
ORIGINAL = CredentialId("claude/4711/original/0")


class Direct:
    """The port without a wire."""

    def __init__(self, world: FakeBroker) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._world, name)
        return lambda *arguments, **named: asyncio.run(method(*arguments, **named))


@pytest.fixture
def world() -> FakeBroker:
    return FakeBroker()


@pytest.fixture(params=["direct", "grpc"])
def broker(request: pytest.FixtureRequest, world: FakeBroker) -> Iterator[Any]:
    if request.param == "direct":
        yield Direct(world)
        return
    with (
        tempfile.TemporaryDirectory() as root,
        ServedBroker(world, Path(root)) as served,
        ControlClient(served.layout.admin_socket) as client,
    ):
        yield client


def test_status_with_and_without_a_monitor(broker: Any, world: FakeBroker) -> None:
    assert broker.status() == asyncio.run(world.status())
    world.monitor = None
    world.problems = ("one", "zwei ü")
    assert (broker.status().monitor, broker.status().problems) == (None, ("one", "zwei ü"))


def test_lists(broker: Any, world: FakeBroker) -> None:
    assert (broker.agents(), broker.credentials(), broker.frozen()) == ((), (), ())
    world.enrollments.append(enrollment())
    assert broker.agents() == (enrollment(),)


def test_a_credential_is_stored_replaced_listed_and_removed(broker: Any, world: FakeBroker) -> None:
    first = broker.put_credential(OAUTH, "anthropic-oauth", Secret(b"one"), {"note": "é"})
    assert (first.id, first.kind, first.owner_uid, first.version, first.attributes) == (
        OAUTH,
        "anthropic-oauth",
        OWNER,
        1,
        {"note": "é"},
    )
    second = broker.put_credential(OAUTH, "anthropic-oauth", Secret(b"two\0\xff"), {})
    assert broker.credentials() == (second,)
    assert (second.version, world.vault[OAUTH][1]) == (2, b"two\0\xff")
    assert broker.get_credential(OAUTH) == Secret(b"two\0\xff")
    assert broker.remove_agent(CLAUDE, OWNER) == 1
    assert broker.get_credential(OAUTH) is None
    assert broker.remove_agent(CLAUDE, OWNER) == 0


def test_an_original_comes_back_byte_for_byte(broker: Any) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB: more than gRPC takes unless it is told to
    broker.put_original(ORIGINAL, "/home/alice/.claude.json", Secret(content))
    assert broker.get_original(ORIGINAL) == Secret(content)


def test_an_original_that_is_not_there(broker: Any) -> None:
    with pytest.raises(MisuseError, match="holds no record claude/4711/original/0"):
        broker.get_original(ORIGINAL)


def test_a_phantom_is_made(broker: Any) -> None:
    assert broker.make_phantom(CLAUDE, OWNER, OAUTH) == Secret(b"phantom-of-claude-4711-claude/4711/oauth")


def test_reload_counts(broker: Any, world: FakeBroker) -> None:
    world.enrollments.append(enrollment())
    answer = broker.reload()
    assert (answer.agents, answer.decoys, world.reloads) == (1, 1, 1)


def test_lineage_of_a_known_and_an_unknown_process(broker: Any, world: FakeBroker) -> None:
    assert broker.lineage(Pid(4242)).steps == world.processes[4242]
    assert (broker.lineage(Pid(1)).steps, broker.lineage(Pid(1)).reason) == ((), "no such process")


@pytest.mark.parametrize("owner", [None, Uid(0), OWNER])
def test_an_agent_is_frozen_and_thawed(broker: Any, owner: Uid | None) -> None:
    made = broker.freeze(AgentTarget(CLAUDE, owner), "because")
    assert (made.agent, made.owner_uid, made.reason) == (CLAUDE, owner, "because")
    assert broker.frozen() == (made,)
    assert broker.thaw(AgentTarget(CLAUDE, Uid(77))) == Thawed(0)
    assert broker.thaw(AgentTarget(CLAUDE, owner)) == Thawed(1)
    assert broker.frozen() == ()


def test_a_process_is_frozen_and_thawed_by_number_and_all_at_once(broker: Any, world: FakeBroker) -> None:
    first = broker.freeze(ProcessTarget(Pid(4242)), "one")
    broker.freeze(AgentTarget(CLAUDE), "two")
    assert first.proc_ids == (4242,)
    assert broker.thaw(OneFreeze(first.id + 7)).freezes == 0
    world.continued, world.out_of_reach = 2, 3
    assert broker.thaw(OneFreeze(first.id)) == Thawed(1, 2, 3)
    assert broker.thaw(Everything()).freezes == 1
    with pytest.raises(MisuseError, match="no process 5"):
        broker.freeze(ProcessTarget(Pid(5)), "x")


@pytest.mark.parametrize(
    "error",
    [
        MisuseError("m", next_step="n"),
        RefusedError("rule", "m", next_step="n"),
        UnavailableError("m", next_step="n"),
        IntegrityError("m", next_step="n"),
    ],
)
def test_errors_of_the_port_arrive_as_they_left(broker: Any, world: FakeBroker, error: Exception) -> None:
    world.failure = error
    for call in (broker.status, broker.agents, broker.reload):
        with pytest.raises(type(error), match=r"^m$") as raised:
            call()
        assert raised.value.next_step == "n"


def collect(client: ControlClient, limit: int) -> list[Incident]:
    with client.alerts(limit, follow=False) as stream:
        return [msgspec.json.decode(each, type=Incident) for each in stream if isinstance(each, bytes)]


def test_stored_alerts_are_the_newest_oldest_first(world: FakeBroker, tmp_path: Path) -> None:
    world.incidents = [decoy_opened(what=f"number {number} ü\x1b") for number in range(5)]
    with ServedBroker(world, tmp_path) as served, ControlClient(served.layout.read_socket) as client:
        assert collect(client, 2) == world.incidents[-2:]
        assert collect(client, 0) == []
        assert collect(client, 100) == world.incidents
        world.failure = UnavailableError("the log is gone", next_step="look")
        with pytest.raises(UnavailableError, match="the log is gone"):
            collect(client, 1)


def test_one_alert_by_the_beginning_of_its_id_and_what_is_said_of_it(broker: Any, world: FakeBroker) -> None:
    world.incidents = [decoy_opened(what="ü\x1b"), decoy_opened()]
    id_ = world.incidents[0].id
    assert broker.alert(id_[:12]) == Alert.of(world.incidents[0], None)
    done = broker.acknowledge(Acknowledgement(id_, "é", Uid(1 << 31), "/usr/bin/x", 1 << 62))
    ack = done.acked
    assert (ack.incident, ack.reason, ack.uid, ack.allowed, ack.expires_ns) == (
        id_,
        "é",
        1 << 31,
        "/usr/bin/x",
        1 << 62,
    )
    assert broker.alert(id_) == done
    for wrong in ("f" * 33, ""):
        with pytest.raises(MisuseError):
            broker.alert(wrong)


def test_alerts_are_filtered_where_they_are_and_an_old_client_gets_all(world: FakeBroker, tmp_path: Path) -> None:
    world.incidents = [decoy_opened(what=f"{each} {n}", severity=each) for n, each in enumerate(("info", "critical"))]
    with ServedBroker(world, tmp_path) as served, ControlClient(served.layout.admin_socket) as client:

        def what(wanted: AlertFilter) -> list[str]:
            with client.alerts(10, follow=False, wanted=wanted) as stream:
                return [msgspec.json.decode(each, type=Alert).what for each in stream if isinstance(each, bytes)]

        client.acknowledge(Acknowledgement(world.incidents[1].id, "", OWNER))
        assert what(AlertFilter()) == ["info 0", "critical 1"]
        assert what(AlertFilter(min_severity="warning")) == ["critical 1"]
        assert what(AlertFilter(hide_acked=True)) == ["info 0"]
        assert what(AlertFilter(since_ns=1 << 62)) == []
        with pytest.raises(MisuseError, match="info, warning, critical"):
            what(AlertFilter(min_severity="dreadful"))
        old = client._read.Alerts(pb.AlertsRequest(limit=10, follow=False))
        assert [msgspec.json.decode(each.json, type=Incident).id for each in old] == [
            each.id for each in world.incidents
        ]
