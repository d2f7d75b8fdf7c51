"""What every alert says, whoever raises it: each place in the product that makes one is run, by way of the real
monitor.sock, to what is stored; what can't be there for one of them stands in its row, with the reason."""

import ast
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

import agent_broker
from agent_broker.daemon.decoy_book import DecoyBook
from agent_broker.daemon.decoy_use import DecoyUse
from agent_broker.daemon.login_ended import LoginEnded
from agent_broker.daemon.outage import AWAY_S, Outage
from agent_broker.enroll import updater
from agent_broker.errors import RefusedError
from agent_broker.honeytoken.presented import digests_of
from agent_broker.identity.planted import PlantedDecoy, save_planted
from agent_broker.identity.registry import EnrolledBinary, SettingsFile
from agent_broker.identity.viewed import ViewedFile
from agent_broker.ids import AgentName, ExecId, ProcId
from agent_broker.issue import INJECT, RELEASE, VIEW, Ask
from agent_broker.kernel import wire
from agent_broker.kernel.events import Denial, Taint
from agent_broker.kernel.maps import TaskRecord
from agent_broker.lineage.record import Step
from agent_broker.monitor.bell import BellRinger
from agent_broker.monitor.detection import ONLY_SEEN
from agent_broker.monitor.frameworks import KINDS
from agent_broker.monitor.heartbeat import decide_blind
from agent_broker.monitor.incident import Incident
from agent_broker.monitor.link_watch import LinkWatch
from agent_broker.monitor.mark import Mark
from agent_broker.monitor.report import Event
from agent_broker.monitor.self_defence import SelfReporter, decide_damage
from agent_broker.monitor.settings_verdict import Seen, Watched, Writing, decide
from agent_broker.monitor.tamper import TamperReporter
from agent_broker.vault.record import Credential
from tests.fakes.alert_world import API_KEY, CLAUDE, DECOY, ENROLLMENT, EPOCH, KEY, OWNER, TIER, VALUE, World
from tests.fakes.clock import FakeClock


async def opened(world: World, role: str = "decoy", change: str = "") -> None:
    reporter = world.reporter()
    mark = Mark(DECOY, None, OWNER, deny=False, role=role, kind="env-file")
    reporter.report(Event(mark, world.actor(), world.fakes.evidence, ONLY_SEEN, change=change))
    await reporter.close()


async def missed(world: World) -> None:
    reporter = world.reporter()
    reporter.missed("the queue was full")
    await reporter.close()


async def refused(world: World, rule: str, mode: str) -> None:
    ask = Ask(world.fakes, API_KEY, mode, "inject tcp", about=DECOY)
    await world.parts.refusals.refused(ask, RefusedError(rule, "it may not"), world.fakes.evidence)


async def presented(world: World) -> None:
    decoy = PlantedDecoy(DECOY, "env-file", OWNER, "ann", "planted", 1, 0, digests_of((VALUE,)))
    save_planted(world.layout.decoys_folder, decoy)
    book = DecoyBook(world.layout.decoys_folder)
    book.reload(())
    await DecoyUse(book, world.parts.raise_alert, world.clock).report_decoy_used(world.fakes, "inject tcp", VALUE)


async def login_ended(world: World) -> None:
    credential = Credential(API_KEY, "claude-oauth", CLAUDE, OWNER, 1, 1, 1, {})
    await LoginEnded(world.parts.raise_alert, world.clock).login_ended(credential, "mark")


async def away(world: World) -> None:
    clock = FakeClock()
    outage = Outage(clock)
    clock.advance_s(AWAY_S + 1)
    await world.parts.raise_alert(outage.failed())


async def settings(world: World) -> None:
    watched = Watched(SettingsFile("/home/ann/.claude/settings.json", "json"), ENROLLMENT)
    writing = Writing(world.fakes.evidence, world.process.pid, 1)
    world.publish(decide(watched, writing, ("hooks: + x",), "critical", Seen(world.clock, EPOCH, TIER)))


async def taken_hold_of(world: World) -> None:
    event = Taint(ProcId(6), ExecId(6), ProcId(7), ExecId(7), world.process.pid, wire.TAINT_TRACED)
    reporter = TamperReporter(world.fakes, world.publish, world.clock, EPOCH)
    reporter.report(event)
    await reporter.close()


async def signalled(world: World) -> None:
    event = Denial(
        world.clock.boot_ns(), ProcId(7), ExecId(7), 0, os.getpid(), wire.OPERATION_SIGNAL, 9, world.process.pid, OWNER,
        denied=True, command=b"cat", name=b"",
    )  # fmt: skip
    SelfReporter(world.fakes, world.publish, world.clock, EPOCH, TIER).report(event)


async def not_told(world: World) -> None:
    SelfReporter(world.fakes, world.publish, world.clock, EPOCH, TIER).missed("a ring was full")


async def damaged(world: World) -> None:
    world.publish(decide_damage("the spool was cut", world.clock, TIER))


async def blinded(world: World) -> None:
    world.publish(decide_blind("no beat came", world.clock, TIER))


async def unmarked(world: World) -> None:
    BellRinger(None, None, world.publish, world.clock, TIER)._tell("they were put back")


async def unlinked(world: World) -> None:
    viewed = ViewedFile(AgentName("file.npmrc"), OWNER, 1, "ann", "/home/ann", ".npmrc", (AgentName("npm"),))
    world.publish(LinkWatch(world.folder, world.publish, world.clock, TIER)._incident(viewed))


async def approved(world: World) -> None:
    async def reload() -> None:
        pass

    around = updater.Surroundings(
        None, None, None, world.hashes, world.clock, world.folder, world.folder, world.folder, TIER, world.publish,
        reload,
    )  # fmt: skip
    judge = updater.Updater.__new__(updater.Updater)
    judge._around = around
    old, new = (EnrolledBinary(f"/opt/claude/{each}", each * 64, 1) for each in "12")
    real, updater.approve_unasked = updater.approve_unasked, lambda *_, **__: "2"
    try:
        await judge._approve(ENROLLMENT, old, new, "package")
    finally:
        updater.approve_unasked = real


NOBODY = ("process", "agent", "session")


@dataclass(frozen=True)
class Row:
    """One way by which an alert comes about."""

    kind: str
    site: str
    """The file and function of the product that makes it."""
    do: Callable[[World], object]
    lacks: dict[str, str] = field(default_factory=dict)
    """What of the content can't be there: the reason. All else must be."""


def refusal(kind: str, rule: str, mode: str) -> Row:
    lacks = {} if mode == VIEW else {"marked": "a credential was asked for, no file was touched"}
    return Row(kind, "refusals._incident", lambda world: refused(world, rule, mode), lacks)


def without_process(why: str, **more: str) -> dict[str, str]:
    return {"process": why, "agent": why, "session": why, "marked": why, **more}


_ONE_US = "it was done to the monitor or the broker: no marked file"
ROWS = (
    Row("decoy-opened", "monitor.detection._incident", opened),
    Row("credential-opened", "monitor.detection._incident", lambda world: opened(world, "credential")),
    Row("decoy-replaced", "monitor.detection._incident", lambda world: opened(world, change="deleted")),
    Row("decoy-opened", "monitor.detection.decide_missed", missed, without_process("the kernel lost who and what")),
    Row("config-changed", "monitor.settings_verdict.decide", settings),
    Row("agent-tampered", "monitor.tamper._report", taken_hold_of, {"marked": "it was done to a process"}),
    Row("monitor-tampered", "monitor.self_defence._tell", signalled, {"marked": _ONE_US}),
    Row("monitor-tampered", "monitor.self_defence.missed", not_told, without_process("the kernel lost who it was")),
    Row("monitor-tampered", "monitor.self_defence.decide_damage", damaged, without_process("nobody watched then")),
    Row("monitor-tampered", "monitor.heartbeat.decide_blind", blinded, without_process("the kernel tells nothing")),
    Row("monitor-tampered", "monitor.bell._tell", unmarked, without_process("removing marks raises no event")),
    Row("monitor-tampered", "daemon.outage.failed", away, without_process("no monitor is there to say")),
    Row(
        "decoy-replaced", "monitor.link_watch._incident", unlinked,
        dict.fromkeys(NOBODY, "a link is looked at now and then, nobody sees who replaces it"),
    ),
    Row(
        "agent-updated", "enroll.updater._approve", approved,
        dict.fromkeys(("process", "session", "marked"), "the update is over; who wrote it is in what approve shows"),
    ),
    Row("decoy-used", "daemon.decoy_use._incident", presented),
    refusal("phantom-replayed", "principal", INJECT),
    refusal("release-refused", "principal", RELEASE),
    refusal("agent-tainted", "taint", INJECT),
    refusal("agent-updated", "updated", INJECT),
    refusal("decoy-opened", "decoy", VIEW),
    Row(
        "login-ended", "daemon.login_ended.login_ended", login_ended,
        dict.fromkeys(("process", "session", "marked"), "the provider ended it, no process here"),
    ),
)  # fmt: skip
NEVER_RAISED = {"lineage-lost": "lost events make a lineage unknown, and the refusal that follows is told"}


@pytest.fixture
async def world():
    world = World()
    await world.start()
    yield world
    await world.close()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}, {row.site}")
async def test_an_alert_says_all_that_can_be_known(world: World, row: Row) -> None:
    follower = world.parts.alerts.follow()
    await row.do(world)
    incident = await anext(follower)

    assert incident.kind == row.kind
    missing = {part for part, is_there in CONTENT.items() if not is_there(incident, world)}
    assert missing == set(row.lacks)
    assert KEY not in repr(incident)
    assert VALUE not in repr(incident)


def _process(incident: Incident, world: World) -> bool:
    first, offender = incident.lineage[0] if incident.lineage else None, incident.offender
    if first is None or offender is None:
        return False
    of_record = (first.pid, first.image.filename, first.image.uid) == (world.process.pid, "/usr/bin/cat", OWNER)
    of_proc = offender.command == ("/bin/cat", "-", "sk-ant-[redacted]") and offender.cwd == str(world.home)
    hashes = incident.process_sha256 is not None and all(step.sha256 for step in incident.lineage[1:])
    return of_record and of_proc and offender.package == "coreutils 9.1-1" and hashes and len(incident.lineage) > 2


def _next_step(incident: Incident, _: World) -> bool:
    step = incident.next_step
    named = incident.id[:12] in step if "agent-broker alert" in step and "alerts" not in step else True
    return bool(step) and "ALERT_ID" not in step and named


CONTENT: dict[str, Callable[[Incident, World], bool]] = {
    "what": lambda incident, _: bool(incident.what),
    "when": lambda incident, _: min(incident.time_ns, incident.boot_ns, incident.last_ns) > 0,
    "tier": lambda incident, _: incident.tier == ("none" if "has not answered" in incident.what else TIER),
    "denied or not": lambda incident, _: bool(incident.action),
    "process": _process,  # pid, exe, uid, hash, package, argv, cwd; the lineage with hashes. It is in no container
    "agent": lambda incident, _: incident.agent == CLAUDE,
    "session": lambda incident, _: incident.session == "session-1",
    "marked": lambda incident, _: bool(incident.path.startswith("/") and incident.role),
    "frameworks": lambda incident, _: bool(incident.frameworks.attack and incident.frameworks.saif),
    "grants": lambda incident, _: "live grant" in incident.grants and "frozen" in incident.grants,
    "next step": _next_step,
}


def test_every_place_that_makes_an_alert_has_a_row() -> None:
    assert {row.site for row in ROWS} == set(_sites())
    assert {row.kind for row in ROWS} | NEVER_RAISED.keys() == KINDS.keys()


def _sites() -> list[str]:
    root = Path(agent_broker.__file__).parent
    found = []
    for file in root.rglob("*.py"):
        module = ".".join(file.relative_to(root).with_suffix("").parts)
        for each in ast.walk(ast.parse(file.read_text())):
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name != "incident_now":
                calls = (call.func for call in ast.walk(each) if isinstance(call, ast.Call))
                if any(getattr(call, "id", "") in {"new_incident", "incident_now", "Incident"} for call in calls):
                    found.append(f"{module}.{each.name}")
    return [each for each in found if each != "monitor.incident.new_incident"]


async def test_a_repeat_says_the_same_when_its_process_is_gone(world: World) -> None:
    follower = world.parts.alerts.follow()
    await refused(world, "principal", INJECT)
    first = await anext(follower)
    world.process.communicate()
    await refused(world, "principal", INJECT)
    await world.parts.refusals.close()

    again = await anext(follower)

    assert (again.id, again.revision, again.count) == (first.id, 1, 2)
    assert (again.offender, again.process_sha256, again.session) == (
        first.offender,
        first.process_sha256,
        "session-1",
    )


async def test_without_a_monitor_an_alert_goes_out_with_what_is_recorded(world: World) -> None:
    await world.hang_up()
    follower = world.parts.alerts.follow()
    await login_ended(world)
    assert (await anext(follower)).tier == "none"
    await refused(world, "principal", RELEASE)
    told = await anext(follower)
    assert told.offender.command == ("cat", "-")
    assert told.lineage == msgspec.convert(world.steps, tuple[Step, ...])


async def test_another_process_under_the_same_pid_is_not_looked_at(world: World) -> None:
    follower = world.parts.alerts.follow()
    steps = tuple(msgspec.structs.replace(step, proc_id=ProcId(step.proc_id + 100)) for step in world.steps)
    world.fakes.snapshot = lambda _: TaskRecord(ProcId(7), ExecId(7), 0)
    world.fakes.evidence = world.verdict(world.steps)
    stranger = msgspec.structs.replace(world.fakes.evidence, steps=steps, principal=None)
    ask = Ask(world.fakes, API_KEY, RELEASE, "agent.sock get")
    await world.parts.refusals.refused(ask, RefusedError("principal", "it may not"), stranger)

    told = await anext(follower)

    assert (told.offender.command, told.offender.cwd) == (("cat", "-"), "")
