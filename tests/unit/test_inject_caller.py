"""The rules about the process behind a connection, on a finder and a monitor that say what the test wants."""

import os
import socket

import pytest
from msgspec.structs import replace

from agent_broker.identity.evidence import Evidence, Freshness, Unchanged, Unknown
from agent_broker.ids import Epoch, ExecId, ProcId
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.peer import Peer, PeerUnknownError
from agent_broker.inject.sock_diag import Found
from tests.fakes.issuer import ProcMonitor, open_descriptors

OPENED_NS = 1 << 62  # younger than any process


class Finder:
    def __init__(self):
        self.problem = None
        self.opened_ns = OPENED_NS

    def find(self, _connection):
        self.confirm(None)
        return Peer(uid=0, inode=7, opened_ns=self.opened_ns, found=Found(7, b"", b""))

    def confirm(self, _peer):
        if self.problem:
            raise PeerUnknownError(self.problem)


class Monitor:
    """``holder`` and ``opener`` are what it says of both; ``asked`` is what it was asked."""

    def __init__(self):
        self.holder = self.opener = ProcMonitor(os.getpid()).evidence(os.getpid())
        self.asked = []
        self.other_end = 7
        self.during = lambda: None

    async def other_end_of(self, own_inode):
        self.asked.append(f"other end of {own_inode}")
        return self.other_end

    def caller_by_socket(self, inode, _opener=None):
        return _Answer(self, f"socket {inode}", lambda: self.holder)

    def ask_ahead(self, inode, known):
        self.asked.append("ahead")
        answer = _Answer(self, f"socket {inode}", self.holder_then())
        return _Ahead(answer, known)

    def holder_then(self):
        holder = self.holder
        return lambda: holder

    async def recheck(self, known):
        self.asked.append("recheck")
        is_same = isinstance(self.holder, Evidence) and self.holder.freshness == known
        return Unchanged(known) if is_same else Unknown("the process ended, or changed")

    def caller_by_pidfd(self, pidfd):
        os.fstat(pidfd)
        return _Answer(self, "pidfd", lambda: self.opener)


class _Ahead:
    def __init__(self, answer, known):
        self.answer, self.known = answer, known

    async def verdict(self):
        return await self.answer.attest(self.known)


class _Answer:
    def __init__(self, monitor, question, verdict):
        self.monitor, self.question, self.verdict = monitor, question, verdict

    async def attest(self, known=None):
        self.monitor.asked.append(self.question)
        self.monitor.during()
        verdict = self.verdict()
        is_same = isinstance(verdict, Evidence) and verdict.freshness == known
        return Unchanged(known) if is_same else verdict


@pytest.fixture
def unix():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


@pytest.fixture
def tcp():
    with socket.socket() as connection:
        yield connection


def with_numbers(evidence, *, proc_id=None, exec_id=None, epoch="test", taints=0):
    old = evidence.freshness
    numbers = Freshness(Epoch(epoch), ProcId(proc_id or old.proc_id), ExecId(exec_id or old.exec_id), taints)
    return Evidence(numbers, evidence.uid, evidence.steps, evidence.principal, evidence.taints, evidence.tier)


async def test_evidence_that_holds_is_asked_for_once_in_full(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    first = await caller.attest()
    assert first is monitor.holder
    assert await caller.attest() is first
    assert await caller.attest(first.freshness) == Unchanged(first.freshness)


async def test_what_was_asked_ahead_is_the_answer_of_the_next_first_look_alone(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    caller.look_ahead()
    assert monitor.asked == []  # nobody was attested on this connection yet
    first = await caller.attest()
    caller.look_ahead()
    assert await caller.attest() is first
    assert monitor.asked == ["socket 7", "ahead", "socket 7"]
    monitor.holder = Unknown("2 processes hold the connection")
    assert await caller.attest() is monitor.holder


async def test_who_holds_the_connection_when_the_head_comes_is_judged_and_not_who_held_it_before(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    await caller.attest()
    monitor.holder = Unknown("2 processes hold the connection")
    caller.look_ahead()
    monitor.holder = ProcMonitor(os.getpid()).evidence(os.getpid())
    assert await caller.attest() == Unknown("2 processes hold the connection")


async def test_what_was_asked_ahead_for_one_request_answers_no_other(tcp):
    monitor, finder = Monitor(), Finder()
    caller = ConnectionCaller(tcp, finder, monitor)
    await caller.attest()
    caller.look_ahead()
    finder.problem = "the client has closed its side of the connection"
    caller.look_ahead()
    assert isinstance(await caller.attest(), Unknown)
    assert monitor.asked == ["socket 7", "ahead"]


async def test_the_second_look_does_not_take_what_was_asked_ahead(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    first = await caller.attest()
    caller.look_ahead()
    assert isinstance(await caller.attest(first.freshness), Unchanged)
    assert monitor.asked == ["socket 7", "ahead", "recheck"]


class FarFinder(Finder):
    """The client is in another network namespace."""

    def find(self, _connection):
        return Peer(uid=0, inode=0, opened_ns=self.opened_ns, found=None, own_inode=5)


async def test_who_comes_from_another_network_namespace_is_found_by_the_monitor_for_each_request_anew(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, FarFinder(), monitor)
    first = await caller.attest()
    assert first is monitor.holder
    assert await caller.attest() is first
    assert monitor.asked == ["other end of 5", "socket 7"] * 2

    monitor.other_end = 0
    assert "nobody holds" in (await caller.attest()).reason


async def test_what_changed_is_told(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    before = (await caller.attest()).freshness
    monitor.holder = with_numbers(monitor.holder, taints=1)
    assert await caller.attest(before) is monitor.holder


async def test_the_second_look_at_one_request_asks_by_numbers_and_in_full_if_that_fails(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    first = await caller.attest()
    assert isinstance(await caller.attest(first.freshness), Unchanged)
    assert monitor.asked == ["socket 7", "recheck"]

    monitor.holder = with_numbers(monitor.holder, taints=1)
    assert await caller.attest(first.freshness) is monitor.holder
    assert monitor.asked[2:] == ["recheck", "socket 7"]


async def test_a_unix_peer_must_be_the_process_that_connected(unix):
    monitor = Monitor()
    caller = ConnectionCaller(unix, Finder(), monitor)
    assert isinstance(await caller.attest(), Evidence)
    assert monitor.asked == ["socket 7", "pidfd"]
    await caller.attest()
    assert monitor.asked == ["socket 7", "pidfd", "socket 7"]
    caller.close()


@pytest.mark.parametrize(
    "opener", [{"proc_id": 1}, {"epoch": "another"}, Unknown("it ended")], ids=["process", "epoch", "unknown"]
)
async def test_a_passed_unix_socket_is_nobodys(unix, opener):
    monitor = Monitor()
    monitor.opener = opener if isinstance(opener, Unknown) else with_numbers(monitor.holder, **opener)
    caller = ConnectionCaller(unix, Finder(), monitor)
    verdict = await caller.attest()
    assert isinstance(verdict, Unknown)
    assert "opened" in verdict.reason
    assert verdict.steps == monitor.holder.steps  # for the alert
    caller.close()


async def test_who_was_looked_at_as_the_opener_is_only_compared_as_the_holder(unix):
    monitor = Monitor()
    caller = ConnectionCaller(unix, Finder(), monitor)
    first = await caller.attest_opener()
    assert await caller.attest() is first
    assert monitor.asked == ["pidfd", "socket 7"]
    caller.close()


async def test_a_passed_socket_is_nobodys_although_its_opener_was_looked_at(unix):
    monitor = Monitor()
    monitor.opener = with_numbers(monitor.holder, proc_id=1)
    caller = ConnectionCaller(unix, Finder(), monitor)
    await caller.attest_opener()
    assert "opened" in (await caller.attest()).reason
    caller.close()


async def test_an_opener_that_became_another_program_since_is_checked_as_that(unix):
    monitor, finder = Monitor(), Finder()
    finder.opened_ns = monitor.holder.caller.exec_ns
    caller = ConnectionCaller(unix, finder, monitor)
    await caller.attest_opener()
    assert "older than the program" in (await caller.attest()).reason
    caller.close()


async def test_a_connection_older_than_its_program_is_nobodys(tcp):
    monitor, finder = Monitor(), Finder()
    finder.opened_ns = monitor.holder.caller.exec_ns
    verdict = await ConnectionCaller(tcp, finder, monitor).attest()
    assert isinstance(verdict, Unknown)
    assert "older than the program" in verdict.reason


async def test_a_new_program_on_the_connection_is_checked_anew(tcp):
    monitor, finder = Monitor(), Finder()
    finder.opened_ns = monitor.holder.caller.exec_ns + 1
    caller = ConnectionCaller(tcp, finder, monitor)
    known = (await caller.attest()).freshness
    step = monitor.holder.steps[0]
    younger = replace(step, image=replace(step.image, exec_ns=finder.opened_ns + 1))
    monitor.holder = replace(with_numbers(monitor.holder, exec_id=99), steps=(younger,))
    for asked in (known, None):
        assert isinstance(await caller.attest(asked), Unknown)


async def test_known_of_another_connection_does_not_skip_the_checks(tcp):
    monitor, finder = Monitor(), Finder()
    known = (await ConnectionCaller(tcp, finder, monitor).attest()).freshness
    finder.opened_ns = 0
    assert isinstance(await ConnectionCaller(tcp, finder, monitor).attest(known), Unknown)


async def test_a_peer_that_is_gone_is_nobody(tcp):
    finder = Finder()
    caller = ConnectionCaller(tcp, finder, Monitor())
    await caller.attest()
    finder.problem = "the client has closed"
    assert await caller.attest() == Unknown("the client has closed")


async def test_a_peer_that_was_never_found_is_nobody_and_nobody_is_asked(tcp):
    finder, monitor = Finder(), Monitor()
    finder.problem = "not in this namespace"
    caller = ConnectionCaller(tcp, finder, monitor)
    assert await caller.attest() == Unknown("not in this namespace")
    assert monitor.asked == []
    assert caller.peer is None


async def test_an_unknown_holder_stays_unknown_although_it_was_known_before(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    known = (await caller.attest()).freshness
    monitor.holder = Unknown("2 processes hold the connection")
    assert await caller.attest(known) == monitor.holder


async def test_an_answer_to_a_question_that_was_not_asked_is_no(tcp):
    monitor = Monitor()
    caller = ConnectionCaller(tcp, Finder(), monitor)
    monitor.holder = Unchanged(monitor.holder.freshness)
    assert isinstance(await caller.attest(), Unknown)


async def test_a_connection_that_closes_while_the_monitor_is_asked_is_nobodys(unix):
    monitor = Monitor()
    caller = ConnectionCaller(unix, Finder(), monitor)
    monitor.during = caller.close
    assert isinstance(await caller.attest(), Unknown)
    assert isinstance(await caller.attest(), Unknown)


async def test_close_gives_the_descriptor_back(unix):
    before = open_descriptors()
    caller = ConnectionCaller(unix, Finder(), Monitor())
    await caller.attest()
    caller.close()
    caller.close()
    assert open_descriptors() == before
