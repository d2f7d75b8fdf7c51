import pytest

from agent_broker.grant import ledger as module
from agent_broker.grant.ledger import Holder, Ledger
from tests.fakes.clock import SECOND_NS, FakeClock

HOLDER = Holder("epoch-1", 10, 20)
KEY = "claude/1000/api-key"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ledger(clock):
    return Ledger(clock)


def add(ledger, holder=HOLDER, *, agent="claude", owner_uid=1000, credential=KEY, mode="inject", lease_s=300):
    return ledger.add(
        holder, agent=agent, owner_uid=owner_uid, credential=credential, mode=mode, lease_ns=lease_s * SECOND_NS
    )


def test_a_grant_is_found_until_its_lease_ends(ledger, clock):
    grant = add(ledger)
    assert (grant.issued_ns, grant.expires_ns) == (clock.boot, clock.boot + 300 * SECOND_NS)
    clock.boot = grant.expires_ns - 1
    assert ledger.find(HOLDER, KEY, "inject") == grant
    clock.boot = grant.expires_ns
    assert ledger.find(HOLDER, KEY, "inject") is None
    assert ledger.live() == ()


def test_setting_the_wall_clock_moves_no_lease(ledger, clock):
    add(ledger)
    clock.wall += 10**18
    assert ledger.find(HOLDER, KEY, "inject") is not None
    clock.wall = 0
    clock.boot += 300 * SECOND_NS
    assert ledger.find(HOLDER, KEY, "inject") is None


@pytest.mark.parametrize(
    ("holder", "credential", "mode"),
    [
        (Holder("epoch-2", 10, 20), KEY, "inject"),
        (Holder("epoch-1", 11, 20), KEY, "inject"),
        (Holder("epoch-1", 10, 21), KEY, "inject"),
        (HOLDER, "claude/1000/oauth", "inject"),
        (HOLDER, KEY, "release"),
    ],
)
def test_a_grant_is_for_exactly_this_image_credential_and_mode(ledger, holder, credential, mode):
    add(ledger)
    assert ledger.find(holder, credential, mode) is None


def test_uses_are_counted_on_the_grant(ledger):
    grant = add(ledger)
    assert grant.uses == 1
    assert ledger.use(grant).uses == 2
    assert ledger.use(grant).uses == 3  # of an older copy: what others counted meanwhile is kept
    assert ledger.find(HOLDER, KEY, "inject").uses == 3


def test_using_a_grant_that_ended_does_not_bring_it_back(ledger):
    grant = add(ledger)
    ledger.end_for([10])
    ledger.use(grant)
    assert ledger.find(HOLDER, KEY, "inject") is None
    newer = add(ledger)
    ledger.use(grant)
    assert ledger.find(HOLDER, KEY, "inject") == newer


def test_ending_by_process(ledger):
    add(ledger)
    add(ledger, mode="release")
    add(ledger, Holder("epoch-1", 11, 22))
    assert ledger.end_for([10, 99]) == 2
    assert [grant.holder.proc_id for grant in ledger.live()] == [11]
    assert ledger.end_for([10]) == 0


def test_ending_by_agent(ledger):
    add(ledger)
    add(ledger, Holder("epoch-1", 11, 22), owner_uid=1001, credential="claude/1001/api-key")
    add(ledger, Holder("epoch-1", 12, 23), agent="codex", credential="codex/1000/api-key")
    assert ledger.end_for_agent("claude", 1000) == 1
    assert ledger.end_for_agent("claude", 1000) == 0
    assert ledger.end_for_agent("claude", None) == 1
    assert [grant.agent for grant in ledger.live()] == ["codex"]


def test_live_grants_are_listed_oldest_first(ledger, clock):
    for number in (3, 1, 2):
        add(ledger, Holder("epoch-1", number, number))
        clock.advance_s(1)
    assert [grant.holder.proc_id for grant in ledger.live()] == [3, 1, 2]


def test_the_last_minute_slides(ledger, clock):
    assert ledger.uses_last_minute("claude", 1000, KEY) == 0
    grant = add(ledger)
    clock.advance_s(30)
    ledger.use(grant)
    ledger.use(grant)
    assert ledger.uses_last_minute("claude", 1000, KEY) == 3
    clock.advance_s(30)
    assert ledger.uses_last_minute("claude", 1000, KEY) == 3  # 60 s ago is not yet gone
    clock.advance_s(1)
    assert ledger.uses_last_minute("claude", 1000, KEY) == 2
    clock.advance_s(30)
    assert ledger.uses_last_minute("claude", 1000, KEY) == 0


def test_who_comes_after_an_idle_minute_is_counted_and_given_a_grant(ledger, clock):
    add(ledger)
    clock.advance_s(61)
    assert ledger.uses_last_minute("claude", 1000, KEY) == 0
    assert add(ledger, Holder("epoch-1", 11, 22)).uses == 1
    assert ledger.uses_last_minute("claude", 1000, KEY) == 1


def test_uses_are_counted_over_all_processes_of_one_agent_and_owner(ledger):
    for number in range(3):
        add(ledger, Holder("epoch-1", number, number))
    add(ledger, Holder("epoch-1", 9, 9), owner_uid=1001)
    assert ledger.uses_last_minute("claude", 1000, KEY) == 3
    ledger.end_for([0, 1, 2])
    assert ledger.uses_last_minute("claude", 1000, KEY) == 3
    assert ledger.uses_last_minute("claude", 1001, KEY) == 1
    assert ledger.uses_last_minute("codex", 1000, KEY) == 0


def test_many_uses_in_a_second_take_no_more_room(ledger):
    grant = add(ledger)
    for _ in range(1000):
        ledger.use(grant)
    assert ledger.uses_last_minute("claude", 1000, KEY) == 1001
    assert len(ledger._uses["claude", 1000, KEY]) == 1


def test_it_prunes_itself(ledger, clock):
    for number in range(100):
        add(ledger, Holder("epoch-1", number, number), credential=f"claude/1000/{number}", lease_s=10)
    clock.advance_s(120)
    add(ledger)
    assert len(ledger._grants) == 1
    assert len(ledger._uses) == 1


def test_it_is_bounded_and_forgets_first_what_would_end_first(ledger, monkeypatch):
    monkeypatch.setattr(module, "MAX_GRANTS", 64)
    for number in range(1000):
        add(ledger, Holder("epoch-1", number, number), lease_s=1000 - number)
        assert len(ledger._grants) <= 64
    found = [number for number in range(1000) if ledger.find(Holder("epoch-1", number, number), KEY, "inject")]
    assert found[0] == 0  # the longest lease
    assert found[-1] == 999  # the newest, although its lease is the shortest
