"""From an answered event to one incident: who counts as the actor, and that the incident goes out whatever fails."""

import asyncio
import hashlib
import itertools
import os
from pathlib import Path

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.executable import HashCache
from agent_broker.identity.looks import NOT_YET
from agent_broker.monitor import actor as actors_module
from agent_broker.monitor import ancestors as ancestors_module
from agent_broker.monitor import report
from agent_broker.monitor.actor import Actor, Actors
from agent_broker.monitor.detection import SERVED
from agent_broker.monitor.fingerprint import Fingerprints, facts_by_stat, hold
from agent_broker.monitor.glimpse import glimpse
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.report import Event, Reporter, Watcher
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
        return Actor(PID, pidfd, self.actors.snapshot(pidfd), hold(PID), glimpse(PID, pidfd))

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
    desk.world.process(PID, "/proc/self/exe")
    desk.report(desk.seen())
    while not desk.told:
        await asyncio.sleep(0)
    desk.world.process(PID, "/proc/self/exe")

    desk.report(desk.seen())

    assert [each.process_sha256 for each in desk.told] == [desk.told[0].process_sha256] * 2
    await desk.reporter.close()


async def test_ancestors_that_run_are_hashed_once_and_nobody_waits_for_those_that_do_not(desk, monkeypatch):
    looked = []
    monkeypatch.setattr(ancestors_module, "hold", lambda pid: looked.append(pid) or hold(pid))
    parent = desk.world.process(os.getppid(), f"/proc/{os.getppid()}/exe")
    desk.world.execute(desk.world.fork(parent, PID), "/proc/self/exe")

    for _ in range(3):
        desk.report(desk.seen())
        while not desk.told:
            await asyncio.sleep(0)

    incident = (await desk.incidents())[-1]
    expected = hash_of(f"/proc/{os.getppid()}/exe")
    assert {step.sha256 for step in incident.lineage if step.image.pid == os.getppid()} == {expected}
    assert looked == [os.getppid()]


def hash_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


async def test_an_ancestor_that_can_not_be_hashed_is_tried_once(desk, monkeypatch):
    looked = []
    monkeypatch.setattr(ancestors_module, "hold", looked.append)  # it has no executable
    for name in ("decoy", "other"):
        parent = desk.world.process(os.getppid(), "/bin/another")
        desk.world.execute(desk.world.fork(parent, PID), "/proc/self/exe")
        before = len(desk.told)
        desk.report(desk.seen(), decoy=Mark(f"/home/ann/{name}", "claude", 1000, deny=False))
        while len(desk.told) == before:
            await asyncio.sleep(0)
    await desk.reporter.close()
    assert looked == [os.getppid()]


async def test_an_ancestor_that_can_not_be_read_in_time_does_not_hold_the_incident_up(desk, monkeypatch):
    monkeypatch.setattr(ancestors_module, "DEADLINE_S", 0.0)
    slow = asyncio.Event()

    async def of(*_):
        await slow.wait()

    parent = desk.world.process(os.getppid(), f"/proc/{os.getppid()}/exe")
    desk.world.execute(desk.world.fork(parent, PID), "/proc/self/exe")
    desk.report(desk.seen())
    while not desk.told:
        await asyncio.sleep(0)
    monkeypatch.setattr(desk.reporter._ancestors._fingerprints, "of", of)

    other = desk.world.process(1, "/proc/1/exe")
    desk.world.execute(desk.world.fork(other, PID), "/proc/self/exe")
    desk.report(desk.seen(), decoy=Mark("/home/ann/other", "codex", 1000, deny=False))
    while len(desk.told) < 2:
        await asyncio.sleep(0)
    slow.set()
    assert (await desk.incidents())[1].lineage[-1].sha256 is None


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


async def test_what_is_looked_at_is_in_work_until_it_is_told(desk):
    desk.world.process(PID, "/proc/self/exe")
    desk.report(desk.seen(), verdict=Unknown("events were lost"))
    assert (desk.reporter.in_work, desk.told) == (1, [])
    await desk.reporter.close()
    assert (desk.reporter.in_work, len(desk.told)) == (0, 1)


def be_looked_at_later(desk, monkeypatch, verdict, *, after=2):
    """The look at the image's files, which its exec began, takes so many questions."""
    asked = itertools.count()
    pending = Unknown(NOT_YET)
    monkeypatch.setattr(desk.world, "recall", lambda _record: verdict if next(asked) >= after else pending)


@pytest.mark.parametrize(("agent", "told"), [("claude", []), ("", ["critical"])])
@pytest.mark.parametrize("ends", [False, True])
async def test_what_made_way_before_it_was_looked_at_is_judged_by_its_own_image(desk, monkeypatch, agent, told, ends):
    process = desk.world.process(PID, "/proc/self/exe", agent=agent)
    actor = desk.seen()
    be_looked_at_later(desk, monkeypatch, desk.actors.recall(actor))
    if ends:
        del desk.world.processes[PID]
    else:
        desk.world.execute(process, "/proc/self/exe", agent="" if agent else "claude")

    desk.report(actor, verdict=Unknown(NOT_YET))

    incidents = await desk.incidents()
    assert [each.severity for each in incidents] == told
    assert not any(NOT_YET in each.what for each in incidents)


async def test_what_is_never_looked_at_is_not_exempt(desk, monkeypatch):
    monkeypatch.setattr(actors_module, "_PAUSES_S", (0, 0))
    process = desk.world.process(PID, "/proc/self/exe", agent="claude")
    actor = desk.seen()
    be_looked_at_later(desk, monkeypatch, desk.actors.recall(actor), after=3)
    desk.world.execute(process, "/proc/self/exe")

    desk.report(actor, verdict=Unknown(NOT_YET))

    (incident,) = await desk.incidents()
    assert incident.severity == "critical"
    assert NOT_YET in incident.what


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


async def test_repeats_of_one_program_are_told_as_a_revision_with_their_count(desk):
    desk.world.process(PID, "/proc/self/exe")
    for path in ("a", "b", "a", "c"):
        desk.report(desk.seen(), decoy=Mark(f"/home/ann/{path}", "claude", 1000, deny=False, kind="env-file"))

    *_, last = await desk.incidents()
    assert len({each.id for each in desk.told}) == 1
    assert (last.count, last.path, last.paths) == (4, "/home/ann/a", ("/home/ann/b", "/home/ann/c"))
    assert (last.role, last.holds) == ("decoy", "env-file")
    assert "4 times in all, in 3 places" in last.what


async def test_what_an_unidentified_program_does_while_it_is_looked_at_is_counted(desk):
    desk.world.process(PID, "/proc/self/exe")
    desk.world.unknown_at_once.add(PID)
    for number in range(report.MAX_WAITING * 2):
        for _ in range(2):
            desk.report(desk.seen(), decoy=Mark(f"/home/ann/{number}", "claude", 1000, deny=False))
    desk.report(desk.seen(), change="deleted")

    last = {each.id: each for each in await desk.incidents()}
    assert sum(each.count for each in last.values()) == report.MAX_WAITING * 4 + 1
    assert [each.kind for each in last.values()].count("decoy-replaced") == 1


async def test_what_the_agent_does_before_it_is_hashed_is_no_incident(desk):
    desk.world.process(PID, "/proc/self/exe", agent="claude")
    desk.world.unknown_at_once.add(PID)
    for number in range(report.MAX_WAITING):
        desk.report(desk.seen(), decoy=Mark(f"/home/ann/{number}", "claude", 1000, deny=False))

    assert await desk.incidents() == []


async def test_the_offender_is_shown_with_its_package_and_session(desk):
    desk.world.process(PID, "/proc/self/exe")
    desk.reporter._watcher = Watcher(
        desk.world.epoch, "observe+", Distribution(), lambda steps: f"session-{len(steps)}"
    )
    desk.report(desk.seen())

    (incident,) = await desk.incidents()
    assert incident.offender.command == tuple(Path("/proc/self/cmdline").read_text().rstrip("\0").split("\0"))
    assert incident.offender.cwd == str(Path.cwd())
    assert incident.offender.package.startswith("python3")
    assert (incident.session, incident.boot_ns) == ("session-1", FakeClock().boot_ns())


async def test_too_many_looks_at_once_are_told_without_a_hash(desk, monkeypatch):
    monkeypatch.setattr(report, "MAX_PENDING", 1)
    for _ in range(2):
        desk.world.process(PID, "/proc/self/exe")
        desk.report(desk.seen())

    hurried, complete = await desk.incidents()
    assert (hurried.process_sha256, complete.process_sha256 is None) == (None, False)
    assert "too much happened at once" in hurried.what


async def test_what_the_kernel_could_not_tell_is_told_at_once_and_counted(desk):
    desk.reporter.missed("too many events at once")
    assert len(desk.told) == 1
    desk.reporter.missed("too many events at once")

    first, last = await desk.incidents()
    assert "too many events at once" in first.what
    assert (last.id, last.count) == (first.id, 2)


async def test_a_change_and_an_open_of_one_program_are_two_incidents(desk):
    desk.world.process(PID, "/proc/self/exe")

    desk.report(desk.seen())
    desk.report(desk.seen(), change="deleted")

    assert {each.kind for each in await desk.incidents()} == {"decoy-opened", "decoy-replaced"}
