"""monitor.sock with its real service and client: who may ask what, what a descriptor does, what survives a restart."""

import asyncio
import os
import socket
import tempfile
from functools import partial
from pathlib import Path

import msgspec
import pytest

from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown
from agent_broker.monitor import client as client_module
from agent_broker.monitor.client import MonitorClient
from agent_broker.monitor.incident import new_incident
from agent_broker.monitor.listener import bind_monitor_socket
from agent_broker.monitor.messages import MAX_PROCESSES, Attest, MonitorStatus, Rejected
from agent_broker.monitor.service import Service
from agent_broker.monitor.spool import Spool
from tests.fakes.kernel import a_file
from tests.fakes.scripted_attestor import ScriptedAttestor
from tests.unit.test_issue import AGENT, evidence

BROKER_UID = 64321


def incident(number):
    return new_incident(
        kind="decoy-opened", time_ns=number, severity="critical", what="x" * 100, tier="t", action="served-decoy"
    )


class Monitor:
    def __init__(self, folder):
        self.folder = folder
        self.attestor = ScriptedAttestor()
        self.spool = Spool(folder / "spool")
        self.reloads = 0
        self.path = folder / "monitor.sock"
        self.service = self.new_service()

    def new_service(self):
        async def reload():
            self.reloads += 1
            return 1, 2, ("a problem",)

        def status(number):
            return MonitorStatus(number, "e1", "observe+", "0", 1, 2, 3, 4, 5, 6, 7, 8, 9, ())

        service = Service(
            listener=bind_monitor_socket(self.path, os.getgid()), broker_uid=BROKER_UID, attestor=self.attestor,
            spool=self.spool, reload=reload, status=status,
        )  # fmt: skip
        service.start()
        return service

    def make(self, number):
        self.spool.append(incident(number))
        self.service.publish()


@pytest.fixture
async def monitor(tmp_path):
    monitor = Monitor(tmp_path)
    yield monitor
    await monitor.service.close()
    monitor.spool.close()


@pytest.fixture
async def client(monitor):
    async with MonitorClient(monitor.path) as client:
        yield client


@pytest.fixture
def pidfd():
    fd = os.pidfd_open(os.getpid())
    yield fd
    os.close(fd)


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


async def test_evidence_travels_whole(monitor, client, pidfd):
    assert await client.attest(pidfd) == monitor.attestor.answer
    assert await client.attest_socket(7) == monitor.attestor.answer
    assert await client.other_end_of(7) == 8


async def test_unchanged_travels(monitor, client, pidfd):
    known = monitor.attestor.answer.freshness

    assert await client.attest(pidfd, known) == Unchanged(known)
    assert isinstance(await client.attest(pidfd, Freshness("e1", 1, 2, 3)), Evidence)


@pytest.mark.parametrize("confirms", [False, True])
async def test_a_recheck_that_must_wait_holds_nobody_up(monitor, client, pidfd, confirms):
    known = monitor.attestor.answer.freshness
    ask = partial(client.confirm, pidfd) if confirms else client.recheck
    assert await ask(known) == Unchanged(known)
    assert monitor.attestor.pidfds == ([os.fstat(pidfd).st_ino] if confirms else [])
    monitor.attestor.slow = True

    waiting = asyncio.create_task(ask(known))
    assert (await client.describe_pid(1)).steps == (AGENT,)
    assert not waiting.done()
    monitor.attestor.gate.set()

    assert await waiting == Unchanged(known)


async def test_of_many_processes_it_is_told_at_once_whose_children_they_are(monitor, client, pidfd):
    monitor.attestor.parents[os.fstat(pidfd).st_ino] = (3, 2, 1)
    stranger = os.open("/", os.O_RDONLY)
    assert await client._parents_of([pidfd]) == ((3, 2, 1),)
    before = open_descriptors()

    found = await client._parents_of([pidfd] * (MAX_PROCESSES - 1) + [stranger])

    assert found == ((3, 2, 1),) * (MAX_PROCESSES - 1) + ((),)
    with pytest.raises(MisuseError, match="descriptors"):
        await client._parents_of([pidfd] * (MAX_PROCESSES + 1))
    assert open_descriptors() == before
    os.close(stranger)


async def test_the_longest_lineages_of_all_that_may_be_asked_for_fit_an_answer(monitor, client, pidfd):
    monitor.attestor.parents[os.fstat(pidfd).st_ino] = tuple(range(2**40, 2**40 + 129))

    assert len(await client._parents_of([pidfd] * MAX_PROCESSES)) == MAX_PROCESSES


async def test_a_question_that_is_stopped_is_refused_and_the_monitors_own_answer_is_dropped(monitor, client, pidfd):
    monitor.attestor.slow = True
    asked = asyncio.create_task(client.attest(pidfd))
    while not monitor.attestor.pidfds:
        await asyncio.sleep(0)

    client._stop(next(iter(client._waiting)))

    assert "more than can be heard" in (await asked).reason
    monitor.attestor.gate.set()
    monitor.attestor.slow = False
    assert isinstance(await client.attest(pidfd), Evidence)


async def test_what_is_asked_ahead_is_answered_whether_somebody_waits_or_not(monitor, client, caplog):
    known = monitor.attestor.answer.freshness
    first, second = client.ask_ahead(7, known), client.ask_ahead(7, known)
    assert await second.verdict() == Unchanged(known)
    del first
    third = client.ask_ahead(7, known)
    await client.close()
    assert isinstance(await third.verdict(), Unknown)
    client.ask_ahead(7, known)
    await client.close()
    assert MonitorClient(monitor.folder / "nobody").ask_ahead(7, known) is None
    assert caplog.records == []


async def test_the_pidfd_that_arrives_is_the_one_that_was_sent(monitor, client, pidfd):
    await client.attest(pidfd)

    assert monitor.attestor.pidfds == [os.fstat(pidfd).st_ino]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("error", [UnavailableError("not a pidfd"), ValueError("a defect")])
async def test_an_attestation_that_breaks_is_answered_unknown_and_leaks_nothing(monitor, client, pidfd, slow, error):
    async def fail_later(*_arguments):
        raise error

    def fail(*_arguments):
        if not slow:
            raise error

    await client.status()
    before = open_descriptors()
    monitor.attestor.attest_now = monitor.attestor.attest_socket_now = fail
    monitor.attestor.attest = monitor.attestor.attest_socket = fail_later

    for answer in (await client.attest(pidfd), await client.attest_socket(7)):
        assert "the attestation failed" in answer.reason
    assert open_descriptors() == before


async def test_a_slow_attestation_holds_nobody_up(monitor, client, pidfd):
    monitor.attestor.slow = True
    slow = asyncio.create_task(client.attest(pidfd))
    assert (await client.describe_pid(1)).steps == (AGENT,)
    assert not slow.done()
    monitor.attestor.gate.set()
    assert isinstance(await slow, Evidence)


async def test_a_thousand_questions_at_once_are_matched_and_leak_nothing(monitor, client, pidfd):
    await client.attest(pidfd)
    before = open_descriptors()

    outdated = Freshness("e1", 1, 2, 3)  # who holds evidence waits for no turn
    answers = await asyncio.gather(*(client.attest(pidfd, outdated) for _ in range(1000)), client.status())

    assert answers[-1].tier == "observe+"
    assert all(isinstance(answer, Evidence) for answer in answers[:-1])
    assert open_descriptors() == before


async def test_reload_and_status_and_lineage(monitor, client):
    answer = await client.reload()

    assert (answer.agents, answer.decoys, answer.problems) == (1, 2, ("a problem",))
    assert (await client.describe_pid(2)).reason == "gone"


async def test_while_the_monitor_is_down_everybody_is_unknown(monitor, pidfd, tmp_path):
    client = MonitorClient(tmp_path / "nobody.sock")

    assert isinstance(await client.attest(pidfd), Unknown)
    with pytest.raises(UnavailableError):
        await client.status()


async def test_a_monitor_that_dies_answers_everybody_unknown_and_comes_back(monitor, client, pidfd):
    monitor.attestor.slow = True
    waiting = asyncio.create_task(client.attest(pidfd))
    await client.status()
    await monitor.service.close()
    assert isinstance(await waiting, Unknown)

    monitor.attestor.slow = False
    monitor.service = monitor.new_service()

    assert isinstance(await client.attest(pidfd), Evidence)


async def test_a_monitor_that_says_nothing_counts_as_down(monitor, client, pidfd, monkeypatch):
    monkeypatch.setattr(client_module, "_TIMEOUT_S", 0.01)
    monitor.attestor.slow = True

    answer = await client.attest(pidfd)

    assert isinstance(answer, Unknown)
    assert "the monitor does not answer" in answer.reason


async def test_a_monitor_that_reads_nothing_counts_as_down_too(pidfd, tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "_TIMEOUT_S", 0.05)
    path = tmp_path / "deaf.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        async with MonitorClient(path) as client:
            answers = await asyncio.gather(*(client.attest(pidfd, evidence().freshness) for _ in range(2000)))

    assert all(isinstance(answer, Unknown) for answer in answers)


async def test_incidents_come_in_order_until_acknowledged_and_again_after_a_break(monitor, tmp_path):
    for number in range(40):  # more than the window
        monitor.make(number)
    async with MonitorClient(monitor.path) as first:
        pushes = first.incidents()
        got = []
        async for push in pushes:
            got.append(push.sequence)
            await first.acknowledge(push.sequence - 1)  # always one behind
            if push.sequence == 40:
                break
        await pushes.aclose()
        await first.status()
    assert got == list(range(1, 41))

    async with MonitorClient(monitor.path) as second:
        pushes = second.incidents()
        assert (await anext(pushes)).sequence == 40
        await second.acknowledge(40)
        monitor.make(41)
        assert (await anext(pushes)).sequence == 41
        await pushes.aclose()


async def test_a_subscriber_that_does_not_read_does_not_stop_the_monitor(monitor, client, pidfd):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.connect(str(monitor.path))
        deaf.send(msgspec.msgpack.encode({"type": "subscribe", "id": 1}))
        for number in range(2000):
            monitor.make(number)
        assert isinstance(await client.attest(pidfd), Evidence)


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x80", msgspec.msgpack.encode({"type": "reload", "id": "x"})])
async def test_a_malformed_request_is_rejected_and_the_connection_stays(monitor, data, pidfd):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(str(monitor.path))
        raw.setblocking(False)
        await loop.sock_sendall(raw, data)
        answer = msgspec.msgpack.decode(await loop.sock_recv(raw, 65536))
        assert answer["type"] == "rejected"
        socket.send_fds(raw, [msgspec.msgpack.encode(Attest(5))], [pidfd])
        assert msgspec.msgpack.decode(await loop.sock_recv(raw, 65536))["id"] == 5


@pytest.mark.parametrize("count", [0, 2, 4, 9])
async def test_a_wrong_number_of_descriptors_is_rejected_and_closed(monitor, pidfd, count):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(str(monitor.path))
        raw.setblocking(False)
        before = open_descriptors()
        for _ in range(20):
            socket.send_fds(raw, [msgspec.msgpack.encode(Attest(5))], [pidfd] * count)
            answer = msgspec.msgpack.decode(await loop.sock_recv(raw, 65536), type=Rejected)
            assert answer.id == 5
        assert open_descriptors() - before <= 1  # the accepted connection's own


async def test_a_lineage_that_is_too_long_for_a_message_is_unknown(monitor, client, pidfd):
    monitor.attestor.answer = evidence(*([AGENT] * 2000))

    verdict = await client.attest(pidfd)

    assert isinstance(verdict, Unknown)
    assert "too long" in verdict.reason


def test_a_second_monitor_is_refused_and_a_dead_socket_replaced(tmp_path):
    path = tmp_path / "monitor.sock"
    first = bind_monitor_socket(path, os.getgid())
    with pytest.raises(UnavailableError, match="another monitor"):
        bind_monitor_socket(path, os.getgid())
    first.close()
    bind_monitor_socket(path, os.getgid()).close()


def asks_as(uid, path, data):
    """Ask as another user, in a child; return what came back (nothing: hung up)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(uid, uid, uid)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
                raw.connect(str(path))
                raw.send(data)
                os.write(writer, raw.recv(65536))
        finally:
            os._exit(0)  # hung up on: nothing was written
    os.close(writer)
    answer = os.read(reader, 65536)
    os.close(reader)
    os.waitpid(pid, 0)
    return answer


@pytest.mark.parametrize(("uid", "answered"), [(BROKER_UID, True), (64999, False)])
async def test_only_the_broker_and_root_are_answered(monitor, uid, answered, tmp_path):
    for folder in (tmp_path, *tmp_path.parents):  # up to pytest's own folder below the temporary one
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    monitor.path.chmod(0o666)  # even if somebody opened the file to all
    ask = msgspec.msgpack.encode({"type": "get-status", "id": 1})

    got = await asyncio.to_thread(asks_as, uid, monitor.path, ask)

    assert bool(got) == answered


async def test_the_broker_may_not_be_misled_by_a_rejection(client, monitor):
    monitor.service._reload = failing_reload

    with pytest.raises(MisuseError, match="broken"):
        await client.reload()


async def failing_reload():
    raise MisuseError("broken registry")


def test_facts_are_plain_data():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(a_file()), type=type(a_file())) == a_file()


async def test_answers_that_exceed_the_buffer_wait_for_the_reader(monitor, pidfd):
    monitor.attestor.answer = evidence(*([AGENT] * 100))
    async with MonitorClient(monitor.path) as client:
        outdated = Freshness("e1", 1, 2, 3)  # who holds evidence waits for no turn
        answers = await asyncio.gather(*(client.attest(pidfd, outdated) for _ in range(500)))

    assert all(isinstance(answer, Evidence) for answer in answers)
