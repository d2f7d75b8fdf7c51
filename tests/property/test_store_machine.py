"""The lineage store as a machine: whatever processes do, it knows every family, or says that it does not.

The model is a plain record of who forked whom (tests/fakes/family.py). Every event arrives here, and in order; what
happens when events don't is in test_lost_events.py.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from agent_broker.identity.environment import scan_strings
from agent_broker.kernel import wire
from agent_broker.lineage.store import Store
from tests.fakes.family import Family
from tests.fakes.kernel import FakeKernel, a_file

KEPT = 3
MAX_STEPS = 128
AGENT, TOOL = a_file(42), a_file(7)
NAMES = ("claude", "rg", "sh")


class Families(RuleBasedStateMachine):
    """Processes are members of the bundle until they exit."""

    living = Bundle("living")

    @initialize(target=living, parents=st.lists(st.integers(0, 8), min_size=1, max_size=4))
    def boot(self, parents):
        self.kernel = FakeKernel()
        self.store = Store(scan_strings, str, kept_after_exit=KEPT)
        self.kernel.sink = self.store.apply
        self.kernel.register(AGENT.dev, AGENT.ino)
        self.family = Family(self.kernel)
        for number in parents:
            older = self.family.members
            self.family.boot(older[number] if number < len(older) else None, uid=1000)
        self.kernel.consume()
        self.store.link_seeded()
        return multiple(*self.family.members)

    @rule(target=living, parent=living)
    def fork(self, parent):
        return self.family.fork(parent)

    @rule(
        member=living,
        name=st.sampled_from(NAMES),
        file=st.sampled_from([AGENT, TOOL]),
        env=st.sampled_from([{}, {"HOME": "/h"}, {"LD_PRELOAD": "/x.so"}, {"PAD": "x" * 9000, "LD_AUDIT": "/x.so"}]),
    )
    def exec(self, member, name, file, env):
        self.family.exec(member, f"/bin/{name}", name, file, env)

    @rule(victim=living, actor=living, taint=st.sampled_from([wire.TAINT_TRACED, wire.TAINT_WRITTEN]))
    def tamper(self, victim, actor, taint):
        self.family.tamper(victim, actor, taint)

    @rule(target=living, member=consumes(living), child=st.booleans())
    def exit(self, member, child):
        """With a child, which is alone then. The first process of all stays."""
        if member is self.family.members[0]:
            return member
        left = [self.family.fork(member)] if child else []
        self.family.exit(member)
        return multiple(*left)

    @rule(parent=living, number=st.integers(1, KEPT * 2))
    def many_short_processes(self, parent, number):
        """They push others out of the queue of ended ones."""
        for _ in range(number):
            child = self.family.fork(parent)
            self.family.exec(child, "/bin/true", "true", TOOL, {})
            self.family.exit(child)

    @invariant()
    def the_store_is_right(self):
        self.kernel.consume()
        self._every_living_process_has_its_right_lineage()
        self._an_ended_process_has_its_right_lineage_or_a_gap()
        self._it_knows_what_runs()
        self._it_keeps_nothing_that_nobody_needs()

    def _every_living_process_has_its_right_lineage(self):
        for member in self.family.alive:
            self._compare(member, member.exec_id, complete=True)

    def _an_ended_process_has_its_right_lineage_or_a_gap(self):
        for member in self.family.ended:
            for exec_id in {member.parent_exec_id, *member.images} - {0}:
                self._compare(member, exec_id, complete=member in self.family.ended[-KEPT:])

    def _it_knows_what_runs(self):
        assert self.store.live == len(self.family.alive)
        for member in self.family.members:
            proc_id = member.process.proc_id
            for exec_id in {member.parent_exec_id, *member.images} - {0}:
                running = member.process.alive and exec_id == member.exec_id
                assert self.store.runs(proc_id, exec_id) == running
                assert self.store.knows(proc_id, exec_id) or not running

    def _it_keeps_nothing_that_nobody_needs(self):
        needed = self.family.needed(KEPT)
        assert len(self.store._processes) <= len(needed)
        assert self.store.images <= sum(len(member.images) for member in needed)
        assert self.store._strings == {}

    def _compare(self, member, exec_id, *, complete):
        expected = self.family.steps(member, exec_id)
        found = self.store.lineage(member.process.proc_id, exec_id)
        steps = [(step.proc_id, step.image.exec_id, step.relation) for step in found.steps]
        assert steps == expected[: len(steps)]
        assert found.gap or steps == expected
        assert not found.gap or not complete or len(expected) > MAX_STEPS
        for step in found.steps:
            true = self.family.images[step.image.exec_id]
            assert (step.image.proc_id, step.image.argv0) == (true.proc_id, true.argv0)
            assert step.image.observed == true.observed
            kept = self.store.captured(step.image.exec_id)
            assert (kept is not None) == (true.observed and true.file == AGENT)
            assert kept is None or bool(kept.injections) == true.injected
            assert kept is None or not kept.problem
            assert bool(step.tampered) == ((step.proc_id, step.image.exec_id) in self.family.tampered)


TestFamilies = Families.TestCase
TestFamilies.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.fixture
def world():
    kernel = FakeKernel()
    store = Store(scan_strings, str, kept_after_exit=KEPT)
    kernel.sink = store.apply
    return Family(kernel), store


def test_a_process_that_execs_for_ever_is_remembered_in_bounded_memory(world):
    family, store = world
    member = family.fork(family.boot())
    for _ in range(20 * MAX_STEPS):
        family.exec(member, "/bin/sh", "sh", TOOL, {})
    family.kernel.consume()

    assert store.images < 3 * MAX_STEPS
    assert "longer than" in store.lineage(member.process.proc_id, member.exec_id).gap


def test_a_chain_of_processes_that_leave_their_children_alone_is_remembered_in_bounded_memory(world):
    family, store = world
    member = family.boot()
    for _ in range(20 * MAX_STEPS):
        child = family.fork(member)
        family.exec(child, "/bin/sh", "sh", TOOL, {})
        family.exit(member)
        member = child
    family.kernel.consume()

    assert len(store._processes) < 3 * MAX_STEPS
    assert store.images < 3 * MAX_STEPS
    assert store.lineage(member.process.proc_id, member.exec_id).gap
