"""Whatever happens in whatever order: a freeze wins, and a lease ends."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent_broker.grant.freeze import FreezeList
from agent_broker.grant.ledger import Holder, Ledger
from tests.fakes.clock import SECOND_NS, FakeClock
from tests.fakes.lineage_records import a_lineage, a_principal

PROCESSES = range(1, 9)  # process n is the child of n // 2
AGENTS = ("claude", "codex")
CREDENTIAL = "claude/1000/api-key"

processes = st.sampled_from(PROCESSES)
agents = st.sampled_from(AGENTS)


def steps_of(proc_id):
    proc_ids = []
    while proc_id:
        proc_ids.append(proc_id)
        proc_id //= 2
    return a_lineage(*proc_ids)


class Grants(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.clock = FakeClock()
        self.path = self.folder / "frozen.json"
        self.path.unlink(missing_ok=True)
        self.freezes = FreezeList(self.path, self.clock)
        self.ledger = Ledger(self.clock)
        self.frozen = {}
        self.expiry = {}

    @rule(process=processes, agent=agents, lease_s=st.integers(1, 100))
    def grant(self, process, agent, lease_s):
        holder = Holder("e", process, process)
        self.ledger.add(
            holder, agent=agent, owner_uid=1000, credential=CREDENTIAL, mode="inject", lease_ns=lease_s * SECOND_NS
        )
        self.expiry[process] = self.clock.boot + lease_s * SECOND_NS

    @rule(wanted=st.sets(processes, min_size=1))
    def freeze_processes(self, wanted):
        freeze = self.freezes.freeze_processes("e", wanted, "frozen process")
        self.frozen.setdefault(freeze.id, wanted)

    @rule(agent=agents, owner_uid=st.sampled_from([None, 1000, 1001]))
    def freeze_agent(self, agent, owner_uid):
        freeze = self.freezes.freeze_agent(agent, owner_uid, "frozen agent")
        self.frozen[freeze.id] = (agent, owner_uid)

    @rule(data=st.data())
    def thaw(self, data):
        if self.frozen:
            chosen = data.draw(st.sampled_from(sorted(self.frozen)))
            assert self.freezes.thaw(chosen)
            del self.frozen[chosen]

    @rule(ended=st.sets(processes))
    def end(self, ended):
        self.ledger.end_for(ended)
        for each in ended:
            self.expiry.pop(each, None)

    @rule(seconds=st.integers(1, 50))
    def wait(self, seconds):
        self.clock.advance_s(seconds)

    @rule()
    def restart(self):
        self.freezes = FreezeList(self.path, self.clock)

    @invariant()
    def a_freeze_wins_and_a_lease_ends(self):
        for process in PROCESSES:
            lineage = {step.proc_id for step in steps_of(process)}
            for agent in AGENTS:
                principal = a_principal(agent)
                expected = any(
                    bool(lineage & what) if isinstance(what, set) else what[0] == agent and what[1] in {None, 1000}
                    for what in self.frozen.values()
                )
                assert (self.freezes.reason_for(steps_of(process), "e", principal) is not None) == expected
            found = self.ledger.find(Holder("e", process, process), CREDENTIAL, "inject")
            assert (found is not None) == (self.clock.boot < self.expiry.get(process, 0))


@pytest.fixture
def machine(tmp_path):
    class InFolder(Grants):
        folder = tmp_path

    return InFolder


def test_grants_and_freezes(machine):
    test = machine.TestCase()
    test.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    test.runTest()
