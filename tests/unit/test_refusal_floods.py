"""What a flood of refusals may write: its own share, and no more."""

import asyncio

import msgspec

from agent_broker.errors import RefusedError
from agent_broker.identity.evidence import Unknown
from agent_broker.ids import CredentialId, Uid
from agent_broker.issue import RELEASE, Ask
from agent_broker.monitor.fold import PER_FAMILY, Folder
from agent_broker.policy.destination import Destination
from agent_broker.refusals import RefusalLog
from tests.fakes.clock import FakeClock
from tests.fakes.lineage_records import FILE, a_step

NO = RefusedError("principal", "the caller is not claude")


class Told:
    """A journal and an alert log that count."""

    def __init__(self):
        self.entries, self.incidents = [], []

    async def append(self, kind, fields):
        self.entries.append((kind, fields))

    async def raise_alert(self, incident):
        self.incidents.append(incident)


async def refuse(log, child, parent, *, file=2, credential="api-key", refusal=NO, **more):
    steps = (with_file(a_step(child, "self"), file), with_file(a_step(parent, "fork"), 1))
    ask = Ask(None, CredentialId(f"claude/1000/{credential}"), RELEASE, "agent.sock get", **more)
    await log.refused(ask, refusal, Unknown("no", uid=Uid(1000), steps=steps))


def with_file(step, ino):
    image = step.image
    return msgspec.structs.replace(
        step, image=msgspec.structs.replace(image, file=msgspec.structs.replace(FILE, ino=ino))
    )


def newest(told):
    return {each.id: each for each in told.incidents}


async def test_ever_new_children_of_one_process_are_one_incident_and_leave_room_for_others():
    told, clock = Told(), FakeClock()
    log = RefusalLog(told, told.raise_alert, clock)
    for child in range(1000, 1500):
        await refuse(log, child, parent=7)
    assert len(told.entries) == len(told.incidents) == 1
    await refuse(log, 2000, parent=8)
    assert len(told.incidents) == 2

    await log.close()

    assert [each.count for each in newest(told).values()] == [500, 1]
    assert told.entries[-1][1]["count"] == 500
    assert told.entries[-1][1]["rule"] == "principal"


async def test_another_rule_or_credential_is_another_incident():
    told = Told()
    log = RefusalLog(told, told.raise_alert, FakeClock())
    await refuse(log, 1000, 7)
    await refuse(log, 1000, 7, credential="oauth")
    await refuse(log, 1000, 7, refusal=RefusedError("taint", "it was traced"))
    assert len(newest(told)) == 3
    await log.close()


async def test_many_programs_and_credentials_of_one_user_are_summed_up():
    told = Told()
    log = RefusalLog(told, told.raise_alert, FakeClock())
    for number in range(400):
        await refuse(log, 1000 + number, 7, file=100 + number, credential=f"made-up-{number}")
    await log.close()

    assert len(newest(told)) == PER_FAMILY + 1
    assert sum(each.count for each in newest(told).values()) == 400


async def test_repeats_are_told_while_it_lasts():
    told, clock, folder = Told(), FakeClock(), Folder()
    log = RefusalLog(told, told.raise_alert, clock, folder)
    await refuse(log, 1000, 7)
    await refuse(log, 1000, 7)
    clock.advance_s(2)
    while len(told.incidents) < 2:
        await asyncio.sleep(0.01)

    assert [(each.revision, each.count) for each in told.incidents] == [(0, 1), (1, 2)]
    await log.close()
    assert len(told.incidents) == 2


async def test_what_a_verified_agent_may_not_do_is_journalled_with_its_count_and_wakes_nobody():
    told = Told()
    log = RefusalLog(told, told.raise_alert, FakeClock())
    for _ in range(9):
        await refuse(log, 1000, 7, refusal=RefusedError("policy", "no rule allows it"))
    await log.close()

    assert told.incidents == []
    assert [entry["count"] for _, entry in told.entries] == [1, 9]


async def test_what_a_tool_may_not_do_is_told_as_information_with_the_place_and_the_reason():
    told = Told()
    log = RefusalLog(told, told.raise_alert, FakeClock())
    place = Destination.parse("https://github.com/other/repository")
    no = RefusedError("policy", "no policy rule lets agent claude do it", next_step="root can allow it")
    for _ in range(9):
        await refuse(log, 1000, 7, refusal=no, tool=True, to=place)
    await log.close()

    first, last = told.incidents
    assert (first.severity, first.kind, first.next_step) == ("info", "release-refused", "root can allow it")
    assert f"a credential for {place}; refused: no policy rule lets agent claude do it" in first.what
    assert (last.id, last.count) == (first.id, 9)
    assert told.entries[0][1]["to"] == str(place)


async def test_a_tool_that_is_not_as_it_was_enrolled_is_more_than_information():
    told = Told()
    log = RefusalLog(told, told.raise_alert, FakeClock())
    await refuse(log, 1000, 7, refusal=RefusedError("tool", "it is not git"), tool=True)
    await log.close()

    assert [each.severity for each in told.incidents] == ["warning"]


async def test_a_refusal_is_in_work_until_it_is_told():
    may_write = asyncio.Event()

    class Slow(Told):
        async def append(self, kind, fields):
            await may_write.wait()
            await super().append(kind, fields)

    told = Slow()
    log = RefusalLog(told, told.raise_alert, FakeClock())
    refusing = asyncio.create_task(refuse(log, 1000, 7))
    await asyncio.sleep(0)
    assert (log.in_work, told.incidents) == (1, [])
    may_write.set()
    await refusing
    assert (log.in_work, len(told.incidents)) == (0, 1)
    await log.close()
