"""SIGSTOP for an offender: a real process that really stands still, and those who are never touched."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from agent_broker.identity.evidence import offenders
from agent_broker.monitor.halt import Halt, Stopping
from agent_broker.monitor.incident import new_incident
from tests.fakes.updating import Updating

pytestmark = pytest.mark.kernel
_UNANSWERED = {}
"""What a process was told that stands still, by its pid."""


@pytest.fixture
async def world():
    made = Updating()
    await made.reload()
    yield made
    _UNANSWERED.clear()
    for each in made.puppets:
        os.kill(each.pid, signal.SIGCONT)
    await made.close()


def halt(world, **wanted):
    return Halt(world.attestor, "e1", Stopping(**{"on": True, "spared": 64999, **wanted}))


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def stands(pid):
    """Wait until a process that was sent SIGSTOP has come to a halt."""
    while state(pid) != "T":
        await asyncio.sleep(0.001)
    return True


async def goes(puppet):
    """Whether a process does what it is told: one that was sent SIGSTOP before comes to a halt and does not answer."""
    answer = _UNANSWERED.pop(puppet.pid, None) or asyncio.create_task(puppet.do("1 + 1"))
    while not answer.done():
        if state(puppet.pid) == "T":
            _UNANSWERED[puppet.pid] = answer  # it comes when the process goes on
            return False
        await asyncio.sleep(0.001)
    return answer.result() == 2


async def incident_of(world, puppet, **changes):
    verdict = await world.attest(puppet)
    facts = {
        "kind": "decoy-opened", "time_ns": 1, "severity": "critical", "what": "it did", "tier": "observe+",
        "action": "served-decoy", "lineage": verdict.steps, "epoch": "e1",
        "offenders": offenders(verdict.steps, verdict.principal),
    }  # fmt: skip
    return new_incident(**(facts | changes))


async def test_the_offender_stands_still_and_goes_on_when_it_is_thawed(world):
    stranger = await world.puppet()
    made = halt(world)
    incident = await incident_of(world, stranger)

    told = made.respond(incident)

    assert told.response == f"stopped: process {stranger.pid} (SIGSTOP)"
    assert await stands(stranger.pid)
    assert made.let_go_on("another", incident.offenders) == 0
    assert await stands(stranger.pid)
    assert made.let_go_on("e1", incident.offenders) == 1
    assert await goes(stranger)


async def test_a_revision_stops_nobody_anew_who_was_thawed_and_another_incident_does(world):
    stranger = await world.puppet()
    made = halt(world)
    first = await incident_of(world, stranger)
    told = made.respond(first)
    assert not await goes(stranger)
    assert made.let_go_on("e1", first.offenders) == 1

    again = made.respond(msgspec.structs.replace(first, revision=1))

    assert again.response == told.response
    assert await goes(stranger)
    other = made.respond(await incident_of(world, stranger))
    assert other.response == f"stopped: process {stranger.pid} (SIGSTOP)"
    assert not await goes(stranger)


@pytest.mark.parametrize("is_another", [False, True], ids=["revision", "incident"])
async def test_who_was_continued_by_another_is_stopped_by_what_it_does_next(world, is_another):
    stranger = await world.puppet()
    made = halt(world)
    first = await incident_of(world, stranger)
    made.respond(first)
    assert not await goes(stranger)
    os.kill(stranger.pid, signal.SIGCONT)
    assert await goes(stranger)

    following = await incident_of(world, stranger) if is_another else msgspec.structs.replace(first, revision=1)

    assert made.respond(following).response.startswith(f"stopped: process {stranger.pid} (SIGSTOP)")
    assert not await goes(stranger)


async def test_an_agents_tool_is_stopped_and_the_agent_is_not(world):
    agent = await world.agent()
    tool_pid = await agent.do("os.spawnv(os.P_NOWAIT, '/bin/sleep', ['sleep', '1000'])")
    tool = type("Tool", (), {"pid": tool_pid})
    made = halt(world)
    while Path(f"/proc/{tool_pid}/comm").read_text() != "sleep\n":
        pass

    told = made.respond(await incident_of(world, tool))

    assert told.response.startswith("stopped")
    assert await stands(tool_pid)
    assert await goes(agent)
    await agent.do(f"[os.kill({tool_pid}, 9), os.waitpid({tool_pid}, 0)].clear()")


async def test_an_agents_main_process_is_stopped_only_if_that_was_asked_for(world):
    agent = await world.agent()
    incident = await incident_of(world, agent)

    told = halt(world).respond(incident)
    assert told.response == f"not stopped: process {agent.pid} is the agent claude itself"
    assert await goes(agent)

    asked = halt(world, agents=True)
    assert asked.respond(incident).response.startswith("stopped")
    assert await stands(agent.pid)
    assert asked.let_go_on("e1", incident.offenders) == 1


async def test_root_and_the_broker_are_never_stopped(world):
    root, broker = await world.puppet(uid=0), await world.puppet(uid=64999)
    for each in (root, broker):
        told = halt(world).respond(await incident_of(world, each))
        assert "not stopped" in told.response
        assert await goes(each)


async def test_another_process_under_the_same_pid_is_not_stopped(world):
    stranger, other = await world.puppet(), await world.puppet()
    incident = await incident_of(world, stranger)
    theirs = await incident_of(world, other, offenders=incident.offenders)
    mixed = await incident_of(world, other, lineage=(_renumbered(theirs.lineage[0], incident.offenders[0]),))

    told = halt(world).respond(await incident_of(world, other, lineage=mixed.lineage, offenders=incident.offenders))

    assert told.response == f"not stopped: process {other.pid} has ended"
    assert await goes(other)


@pytest.mark.parametrize("changes", [{"severity": "warning"}, {"offenders": ()}, {"epoch": "another"}])
async def test_only_offenders_of_critical_incidents_of_this_monitor_are_stopped(world, changes):
    stranger = await world.puppet()
    incident = await incident_of(world, stranger, **changes)
    assert halt(world).respond(incident) == incident
    assert halt(world, on=False).respond(await incident_of(world, stranger)).response == ""
    assert await goes(stranger)


async def test_a_process_that_ended_is_said_to_have(world):
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=64127)
    os.write(process.stdin.fileno(), b"x")
    os.read(process.stdout.fileno(), 1)  # its exec is over
    incident = await incident_of(world, process)
    process.communicate()
    assert halt(world).respond(incident).response == f"not stopped: process {process.pid} has ended"


def _renumbered(step, proc_id):
    return msgspec.structs.replace(step, proc_id=proc_id)
