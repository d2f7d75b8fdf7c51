"""From an answered event to one incident: who counts as the actor, and that the incident goes out whatever fails."""

import asyncio
import os

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.executable import HashCache
from agent_broker.monitor import actor as actors_module
from agent_broker.monitor import report
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.detection import SERVED
from agent_broker.monitor.fingerprint import Fingerprints, facts_by_stat, hold
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.report import Event, Reporter, Watcher
from agent_broker.monitor.throttle import MAX_REPORTS
from tests.fakes.attestor import World
from tests.fakes.clock import FakeClock

DECOY = Mark("/home/ann/decoy", "claude", 1000, deny=False)
PID = os.getpid()


class Desk:
    """A reporter, its world, and what it published. The process behind every event is the test itself."""

    def __init__(self):
        self.world = World()
        self.actors = Actors(self.world)
        self.told = []
        self.reporter = Reporter(
            actors=self.actors, fingerprints=Fingerprints(HashCache(), facts_by_stat), publish=self.told.append,
            clock=FakeClock(), watcher=Watcher(self.world.epoch, "observe+"),
        )  # fmt: skip

    def seen(self):
        """Hold the process as the listener does."""
        pidfd = os.pidfd_open(PID)
        return Actor(PID, pidfd, self.actors.snapshot(pidfd), hold(PID))

    def report(self, actor, *, verdict=None, decoy=DECOY, change=""):
        verdict = self.actors.recall(actor) if verdict is None else verdict
        self.reporter.report(Event(decoy, actor, verdict, SERVED, change=change))

    async def incidents(self):
        await self.reporter.close()
        return self.told


@pytest.fixture
async def desk():
    return Desk()


async def test_an_event_becomes_one_complete_incident_and_its_descriptors_are_closed(desk):
    desk.world.process(PID, "/proc/self/exe")
    actor = desk.seen()

    desk.report(actor)

    (incident,) = await desk.incidents()
    assert (incident.kind, incident.epoch, incident.tier) == ("decoy-opened", "fake", "observe+")
    assert len(incident.process_sha256) == 64
    assert (actor.pidfd, actor.exe_fd) == (-1, None)


async def test_a_hash_that_is_known_makes_the_incident_at_once(desk):
    child = desk.world.process(PID, "/proc/self/exe")
    desk.report(desk.seen())
    while not desk.told:
        await asyncio.sleep(0)
    desk.world.execute(child, "/proc/self/exe")

    desk.report(desk.seen())

    assert [each.process_sha256 for each in desk.told] == [desk.told[0].process_sha256] * 2
    await desk.reporter.close()


async def test_an_agent_whose_hash_was_not_taken_is_asked_again_and_exempt(desk):
    desk.world.process(PID, "/proc/self/exe", agent="claude")
    desk.world.unknown_at_once.add(PID)

    desk.report(desk.seen())

    assert await desk.incidents() == []


async def test_an_opener_that_becomes_the_agent_by_exec_is_not_exempt(desk):
    process = desk.world.process(PID, "/proc/self/exe")
    actor = desk.seen()
    verdict = desk.actors.recall(actor)

    desk.world.execute(process, "/proc/self/exe", agent="claude")
    desk.report(actor, verdict=verdict)

    (incident,) = await desk.incidents()
    assert (incident.severity, incident.agent) == ("critical", None)


async def test_an_opener_whose_hash_is_pending_and_that_becomes_the_agent_by_exec_is_not_exempt(desk):
    process = desk.world.process(PID, "/proc/self/exe")
    desk.world.unknown_at_once.add(PID)
    actor = desk.seen()
    verdict = desk.actors.recall(actor)

    desk.world.execute(process, "/proc/self/exe", agent="claude")
    desk.report(actor, verdict=verdict)

    (incident,) = await desk.incidents()
    assert incident.severity == "critical"


async def test_an_opener_of_unknown_lineage_that_becomes_the_agent_by_exec_is_not_exempt(desk):
    process = desk.world.process(PID, "/proc/self/exe")
    actor = desk.seen()

    desk.world.execute(process, "/proc/self/exe", agent="claude")
    desk.report(actor, verdict=Unknown("events were lost"))

    (incident,) = await desk.incidents()
    assert "events were lost" in incident.what


async def test_an_opener_without_numbers_never_becomes_exempt(desk):
    actor = desk.seen()
    desk.world.process(PID, "/proc/self/exe", agent="claude")

    desk.report(actor, verdict=Unknown("never seen"))

    (incident,) = await desk.incidents()
    assert incident.severity == "critical"


async def test_an_attestor_that_takes_too_long_leaves_the_first_look(desk, monkeypatch):
    monkeypatch.setattr(actors_module, "SECOND_LOOK_S", 0)
    desk.world.process(PID, "/proc/self/exe", agent="claude")
    desk.world.unknown_at_once.add(PID)

    desk.report(desk.seen())

    (incident,) = await desk.incidents()
    assert "not hashed yet" in incident.what


async def test_an_attestor_that_fails_does_not_lose_the_incident(desk, monkeypatch):
    desk.world.process(PID, "/proc/self/exe")

    async def fail(_pidfd, _known=None):
        raise ValueError("a defect")

    monkeypatch.setattr(desk.world, "attest", fail)
    desk.world.unknown_at_once.add(PID)
    desk.report(desk.seen())

    (incident,) = await desk.incidents()
    assert "the monitor failed to look closer" in incident.what


@pytest.mark.parametrize("error", [UnavailableError("not a pidfd"), ValueError("a defect")])
async def test_looks_that_fail_end_in_unknown(desk, monkeypatch, error):
    def fail(_given):
        raise error

    desk.world.process(PID)
    actor = desk.seen()
    monkeypatch.setattr(desk.world, "recall", fail)
    monkeypatch.setattr(desk.world, "snapshot", fail)

    assert isinstance(desk.actors.recall(actor), Unknown)
    assert desk.actors.snapshot(actor.pidfd) is None
    actor.close()


async def test_an_attestor_that_says_unchanged_is_not_believed(desk, monkeypatch):
    desk.world.process(PID, agent="claude")
    actor = desk.seen()
    evidence = desk.actors.recall(actor)
    assert isinstance(evidence, Evidence)
    monkeypatch.setattr(desk.world, "recall", lambda _record: Unchanged(evidence.freshness))

    assert isinstance(desk.actors.recall(actor), Unknown)
    actor.close()


async def test_a_process_that_was_gone_is_described_from_the_record_by_its_pid(desk):
    desk.world.process(PID, "/bin/mv", uid=0)

    verdict = desk.actors.recall(Actor(PID, -1, desk.actors.snapshot(-1)))

    assert (verdict.uid, verdict.steps[0].image.filename) == (0, "/bin/mv")
    assert "gone" in verdict.reason


async def test_a_crowd_is_cut_and_summed_up(desk):
    for number in range(MAX_REPORTS + 5):
        desk.world.process(PID, "/proc/self/exe")
        actor = desk.seen()
        assert actor.record.proc_id == number * 2 + 1
        desk.report(actor)

    told = await desk.incidents()
    assert len(told) == MAX_REPORTS + 1
    assert "5 more events of the decoy /home/ann/decoy" in told[-1].what


async def test_too_many_looks_at_once_are_told_without_a_hash(desk, monkeypatch):
    monkeypatch.setattr(report, "MAX_PENDING", 1)
    for _ in range(2):
        desk.world.process(PID, "/proc/self/exe")
        desk.report(desk.seen())

    hurried, complete = await desk.incidents()
    assert (hurried.process_sha256, complete.process_sha256 is None) == (None, False)
    assert "too much happened at once" in hurried.what


async def test_what_the_kernel_could_not_tell_is_told_once_a_second(desk):
    desk.reporter.missed("too many events at once")
    desk.reporter.missed("too many events at once")

    (incident,) = await desk.incidents()
    assert "too many events at once" in incident.what


async def test_a_change_and_an_open_of_one_program_are_two_incidents(desk):
    desk.world.process(PID, "/proc/self/exe")

    desk.report(desk.seen())
    desk.report(desk.seen(), change="deleted")

    assert {each.kind for each in await desk.incidents()} == {"decoy-opened", "decoy-replaced"}
