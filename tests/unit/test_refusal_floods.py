"""What a flood of refusals may write: its own share, and no more."""

from agent_broker.errors import RefusedError
from agent_broker.identity.evidence import Unknown
from agent_broker.ids import CredentialId, Uid
from agent_broker.issue import RELEASE, Ask
from agent_broker.refusals import PER_FAMILY_PER_MINUTE, PER_USER_PER_MINUTE, RefusalLog
from tests.fakes.clock import FakeClock
from tests.fakes.lineage_records import a_step

NO = RefusedError("principal", "the caller is not claude")


class Told:
    """A journal and an alert log that count."""

    def __init__(self):
        self.entries, self.incidents = [], []

    async def append(self, kind, fields):
        self.entries.append((kind, fields))

    async def raise_alert(self, incident):
        self.incidents.append(incident)


async def refuse(log, child, parent):
    verdict = Unknown("no", uid=Uid(1000), steps=(a_step(child, "self"), a_step(parent, "fork")))
    await log.refused(Ask(None, CredentialId("claude/1000/api-key"), RELEASE, "agent.sock get"), NO, verdict)


async def test_ever_new_children_of_one_process_leave_room_for_the_refusals_of_others():
    told, clock = Told(), FakeClock()
    log = RefusalLog(told, told.raise_alert, clock)
    for child in range(1000, 1500):
        await refuse(log, child, parent=7)
    assert len(told.entries) == len(told.incidents) == PER_FAMILY_PER_MINUTE
    await refuse(log, 2000, parent=8)
    assert len(told.incidents) == PER_FAMILY_PER_MINUTE + 1
    assert told.entries[-1][1]["left_out_before"] == 500 - PER_FAMILY_PER_MINUTE


async def test_many_families_of_one_user_share_what_the_user_has():
    told, clock = Told(), FakeClock()
    log = RefusalLog(told, told.raise_alert, clock)
    for parent in range(1, 100):
        for child in range(5):
            await refuse(log, parent * 1000 + child, parent)
    assert len(told.entries) == PER_USER_PER_MINUTE
