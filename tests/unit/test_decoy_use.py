"""Who presents a decoy's value is told, once, with its lineage; a flood is bounded; the agent itself is a warning."""

import pytest

from agent_broker.daemon.decoy_book import DecoyBook
from agent_broker.daemon.decoy_use import PER_FAMILY_PER_MINUTE, PER_USER_PER_MINUTE, REPEAT_S, DecoyUse
from agent_broker.errors import IntegrityError
from agent_broker.honeytoken.presented import digests_of
from agent_broker.identity.evidence import Evidence, Freshness, Unknown
from agent_broker.identity.planted import PlantedDecoy, save_planted
from agent_broker.identity.registry import DecoyFile, Enrollment, RoleRule
from agent_broker.ids import Epoch, ExecId, ProcId, Uid
from tests.fakes.clock import FakeClock
from tests.fakes.lineage_records import a_principal, a_step

PLANTED = "ghp_the-value-of-a-planted-decoy"
ENROLLED = "sk-ant-oat01-the-value-of-an-enrolments-decoy"


class Somebody:
    """A caller whose verdict is set."""

    def __init__(self, verdict):
        self.verdict = verdict

    async def attest(self, _known=None):
        return self.verdict


class Told:
    def __init__(self):
        self.incidents = []

    async def raise_alert(self, incident):
        self.incidents.append(incident)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "decoys"
    folder.mkdir(mode=0o750)
    decoy = PlantedDecoy("/home/ann/.env", "env-file", Uid(1000), "ann", "planted", 1, 0, digests_of((PLANTED,)))
    save_planted(folder, decoy)
    return folder


@pytest.fixture
def book(folder):
    book = DecoyBook(folder)
    decoys = (DecoyFile("/home/ann/.claude/.credentials.json", "claude-oauth", values_sha256=digests_of((ENROLLED,))),)
    book.reload([Enrollment("claude", Uid(1000), "ann", (), RoleRule(("claude",)), decoys, (), 0)])
    return book


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def uses(book, told, clock):
    return DecoyUse(book, told.raise_alert, clock)


def evidence(proc_id=10, parent=9, principal=None, taints=()):
    steps = (a_step(proc_id, "self"), a_step(parent, "fork"))
    freshness = Freshness(Epoch("e"), ProcId(proc_id), ExecId(proc_id), 0)
    return Evidence(freshness, Uid(1000), steps, principal, taints=taints, tier="observe+")


async def test_a_stranger_is_critical_and_the_offender(uses, told, clock):
    assert uses.is_decoy(PLANTED)
    await uses.report_decoy_used(Somebody(evidence()), "inject tcp", PLANTED)
    (incident,) = told.incidents
    assert (incident.kind, incident.severity, incident.path) == ("decoy-used", "critical", "/home/ann/.env")
    assert (incident.role, incident.holds, incident.action) == ("decoy", "env-file", "refused")
    assert incident.offenders[0] == 10
    assert incident.epoch == "e"
    assert (incident.time_ns, incident.boot_ns) == (clock.wall_ns(), clock.boot_ns())
    assert PLANTED not in repr(incident)


async def test_who_can_t_be_identified_is_told_all_the_same(uses, told):
    await uses.report_decoy_used(Somebody(Unknown("two processes hold the connection")), "inject unix", PLANTED)
    (incident,) = told.incidents
    assert incident.severity == "critical"
    assert "two processes hold the connection" in incident.what


async def test_the_agent_itself_with_its_own_decoy_is_a_warning_and_not_frozen(uses, told):
    agent = Somebody(evidence(principal=a_principal()))
    await uses.report_decoy_used(agent, "inject tcp", ENROLLED)
    (incident,) = told.incidents
    assert (incident.severity, incident.offenders) == ("warning", ())
    assert "unenroll claude" in incident.next_step


@pytest.mark.parametrize(
    ("who", "value"),
    [
        (evidence(principal=a_principal(), taints=("LD_PRELOAD",)), ENROLLED),
        (evidence(principal=a_principal(owner_uid=1001)), ENROLLED),
        (evidence(principal=a_principal("codex")), ENROLLED),
        (evidence(principal=a_principal()), PLANTED),
    ],
    ids=["tainted", "another user's", "another agent", "a decoy of nobody's"],
)
async def test_no_other_agent_is_spared(uses, told, who, value):
    await uses.report_decoy_used(Somebody(who), "inject tcp", value)
    (incident,) = told.incidents
    assert incident.severity == "critical"
    assert incident.offenders


async def test_a_flood_is_told_once_and_counted(uses, told, clock):
    for _ in range(1000):
        await uses.report_decoy_used(Somebody(evidence()), "inject tcp", PLANTED)
    assert len(told.incidents) == 1
    clock.advance_s(REPEAT_S)
    await uses.report_decoy_used(Somebody(evidence()), "inject tcp", PLANTED)
    assert "999 uses before" in told.incidents[1].what


async def test_ever_new_children_of_one_process_leave_room_for_others(uses, told):
    for child in range(1000, 1500):
        await uses.report_decoy_used(Somebody(evidence(child, parent=7)), "inject tcp", PLANTED)
    assert len(told.incidents) == PER_FAMILY_PER_MINUTE
    await uses.report_decoy_used(Somebody(evidence(2000, parent=8)), "inject tcp", PLANTED)
    assert len(told.incidents) == PER_FAMILY_PER_MINUTE + 1


async def test_one_user_s_share_is_bounded(uses, told):
    for parent in range(1, 200):
        await uses.report_decoy_used(Somebody(evidence(parent + 1000, parent)), "inject tcp", PLANTED)
    assert len(told.incidents) == PER_USER_PER_MINUTE


def test_a_broken_record_leaves_what_was_known(book, folder):
    (record,) = folder.glob("*.json")
    record.chmod(0o666)
    with pytest.raises(IntegrityError):
        book.reload(())
    assert book.find(PLANTED).path == "/home/ann/.env"
    assert book.find(ENROLLED).agent == "claude"


def test_a_value_anywhere_in_a_request_s_texts_is_found(uses):
    assert uses.value_in(("get", f"password={PLANTED}\n")) == PLANTED
    assert uses.value_in(("get", "password=something-else-of-some-length")) is None
    assert uses.value_in(()) is None
