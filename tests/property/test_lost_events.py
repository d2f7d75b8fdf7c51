"""Events that get lost, wait, or overtake each other: every answer is the right one or Unknown, never a wrong yes.

For each event the machine says what becomes of it (tests/fakes/lossy_kernel.py); processes go on, and events arrive,
also between the two looks of one attestation. The truth is a plain record of who did what (tests/fakes/family.py).
"""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent_broker.identity import attest as attest_module
from agent_broker.identity.agent import AgentTable, KnownFile
from agent_broker.identity.attest import Attestor
from agent_broker.identity.enrolled_files import register_files
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.evidence import Evidence, Unchanged, Unknown
from agent_broker.identity.executable import HashCache
from agent_broker.identity.registry import EnrolledBinary, Enrollment, RoleRule
from agent_broker.kernel import wire
from agent_broker.lineage.store import Store
from tests.fakes.family import Family
from tests.fakes.kernel import a_file
from tests.fakes.lossy_kernel import ARRIVES, LOST, LOST_AND_COUNTED_LATER, WAITS, LossyKernel

OWNER, STRANGER = 1000, 1001
SHA = "a" * 64
AGENT, TOOL = a_file(42), a_file(7)
PROGRAMS = {
    "agent": ("/opt/claude", "claude", AGENT),
    "its own binary as rg": ("/opt/claude", "rg", AGENT),
    "a tool": ("/bin/sh", "sh", TOOL),
    "a tool that says it is the agent": ("/tmp/evil", "claude", TOOL),
}
FATES = st.sampled_from([ARRIVES] * 5 + [WAITS] * 3 + [LOST, LOST_AND_COUNTED_LATER])
NUMBERS = st.integers(0, 6)
MOVES = st.sampled_from(["fork", "exec", "exec", "exit", "tamper", "arrive", "arrive"])


class World:
    """An attestor over a lossy kernel, with one enrolled agent, and the truth beside it."""

    def __init__(self, loop, tells):
        self.loop = loop
        self.kernel = LossyKernel(tells=tells)
        self.store = Store(scan_strings, str, kept_after_exit=4)
        self.kernel.sink = self.store.apply
        hashes = HashCache()
        hashes._put(AGENT, SHA)
        self.attestor = Attestor(epoch="e1", tier="observe+", sensor=self.kernel, store=self.store, hashes=hashes)
        binary = EnrolledBinary("/opt/claude", SHA, 100)
        enrollment = Enrollment("claude", OWNER, "ann", (binary,), RoleRule(("claude",)), (), (), 0)
        table = AgentTable((KnownFile(enrollment, binary, AGENT),))
        register_files(self.kernel, self.attestor.agents, table)
        self.attestor.agents = table
        self.family = Family(self.kernel)

    def boot(self):
        """Two shells that stay, and an agent with a child."""
        for uid in (OWNER, STRANGER):
            self.family.boot(uid=uid)
        self.kernel.consume()
        self.store.link_seeded()
        agent = self.family.fork(self.family.members[0])
        self.family.exec(agent, *PROGRAMS["agent"], {})
        self.family.fork(agent)

    def member(self, number):
        """0 is the youngest."""
        return self.family.members[-1 - number % len(self.family.members)]

    def living(self, number):
        return self.family.alive[-1 - number % len(self.family.alive)]

    def do(self, move, number, program="agent", *, injected=False):
        match move:
            case "fork":
                self.family.fork(self.living(number))
            case "exec" if (member := self.living(number)) not in self.family.members[:2]:
                self.family.exec(member, *PROGRAMS[program], {"LD_PRELOAD": "/x.so"} if injected else {})
            case "exit" if (member := self.living(number)) not in self.family.members[:2]:
                self.family.exit(member)
            case "tamper":
                self.family.tamper(self.living(number), self.family.members[0], wire.TAINT_WRITTEN)
            case "arrive" if self.kernel.waiting:
                self.kernel.hand_over(number)

    def ask(self, member, known=None, moves=()):
        """Attest; the moves are made whenever it looks at the kernel's record or takes events, so between its looks."""
        waiting = iter(moves)
        self.kernel.on_lookup = self.kernel.on_consume = lambda: self.do(*next(waiting, ("nothing", 0)))
        try:
            return self.loop.run_until_complete(self.attestor.attest(member.process.pidfd, known))
        finally:
            self.kernel.on_lookup, self.kernel.on_consume = None, lambda: None


class LostEvents(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.world = World(self.loop, self.tells)
        self.world.boot()
        self.evidence = []

    @rule(fate=FATES, number=NUMBERS)
    def fork(self, fate, number):
        self.world.kernel.fate = lambda: fate
        self.world.do("fork", number)

    @rule(
        fates=st.lists(FATES, min_size=2, max_size=2),
        number=NUMBERS,
        program=st.sampled_from(sorted(PROGRAMS)),
        injected=st.booleans(),
    )
    def exec(self, fates, number, program, injected):
        """The first of two events that such an exec makes are its strings."""
        left = list(fates)
        self.world.kernel.fate = lambda: left.pop() if left else ARRIVES
        self.world.do("exec", number, program, injected=injected)

    @rule(fate=FATES, number=NUMBERS)
    def exit(self, fate, number):
        self.world.kernel.fate = lambda: fate
        self.world.do("exit", number)

    @rule(
        fates=st.lists(FATES, min_size=3, max_size=3),
        number=NUMBERS,
        programs=st.lists(st.sampled_from(sorted(PROGRAMS)), min_size=1, max_size=2),
    )
    def start(self, fates, number, programs):
        """A child is forked and becomes one program, or one after the other."""
        left = list(fates)
        self.world.kernel.fate = lambda: left.pop() if left else ARRIVES
        self.world.do("fork", number)
        for program in programs:
            self.world.do("exec", 0, program)

    @rule(fate=FATES, number=NUMBERS)
    def tamper(self, fate, number):
        self.world.kernel.fate = lambda: fate
        self.world.do("tamper", number)

    @precondition(lambda self: self.world.kernel.waiting)
    @rule(number=NUMBERS)
    def arrive(self, number):
        self.world.do("arrive", number)

    @rule()
    def losses_are_counted(self):
        self.world.kernel.count_losses()

    @rule(number=NUMBERS, moves=st.lists(st.tuples(MOVES, NUMBERS), max_size=3), fate=FATES)
    def ask(self, number, moves, fate):
        self.world.kernel.fate = lambda: fate
        member = self.world.member(number)
        verdict = self.world.ask(member, None, moves)
        self._must_be_right(member, verdict, moved=bool(moves))
        self._nobody_else_is_wrong()
        if isinstance(verdict, Evidence):
            self.evidence.append((member, verdict.freshness))

    @precondition(lambda self: self.evidence)
    @rule(number=NUMBERS, moves=st.lists(st.tuples(MOVES, NUMBERS), max_size=2))
    def ask_again(self, number, moves):
        member, known = self.evidence[number % len(self.evidence)]
        before = self._numbers(member)
        verdict = self.world.ask(member, known, moves)
        self._must_be_right(member, verdict, known, before, moved=bool(moves))

    @precondition(lambda self: self.evidence)
    @rule(number=NUMBERS)
    def recheck(self, number):
        """By numbers alone, so only if the ring tells what it holds back, or holds nothing; every loss is counted."""
        while self.world.kernel.waiting and not self.tells:
            self.world.kernel.hand_over(number)
        self.world.kernel.count_losses()
        member, known = self.evidence[number % len(self.evidence)]
        if isinstance(self.world.attestor.recheck_now(known), Unchanged):
            assert self._numbers(member) == (known.proc_id, known.exec_id)
            assert known.taints == member.process.taints

    @rule(number=NUMBERS)
    def recall(self, number):
        """What an image was, whether it still runs or not."""
        member = self.world.member(number)
        record = self.world.attestor.snapshot(member.process.pidfd)
        if record is not None:
            verdict = self.world.attestor.recall(record)
            self._must_be_right(member, verdict)

    def _nobody_else_is_wrong(self):
        """Nothing moves here: everybody is asked."""
        for member in self.world.family.alive:
            verdict = self.world.attestor.attest_now(member.process.pidfd)
            if verdict is not None:
                self._must_be_right(member, verdict)

    def _numbers(self, member):
        return (member.process.proc_id, member.exec_id) if member.process.alive else None

    def _must_be_right(self, member, verdict, known=None, before=None, *, moved=False):
        if isinstance(verdict, Unknown):
            assert moved or self.world.kernel.harmed or not member.process.alive
            return
        numbers = (verdict.freshness.proc_id, verdict.freshness.exec_id)
        if isinstance(verdict, Unchanged):
            assert verdict.freshness == known
            assert numbers in {before, self._numbers(member)}
            assert moved or known.taints == member.process.taints
            return
        assert numbers == self._numbers(member)
        family = self.world.family
        steps = [(step.proc_id, step.image.exec_id, step.relation) for step in verdict.steps]
        assert steps == family.steps(member, member.exec_id)
        assert [step.image.argv0 for step in verdict.steps] == [family.images[each].argv0 for _, each, _ in steps]
        assert verdict.uid == member.process.uid
        self._principal_must_be_right(verdict, steps)

    def _principal_must_be_right(self, verdict, steps):
        images = self.world.family.images
        found, path = None, []
        for proc_id, exec_id, relation in steps:
            image = images[exec_id]
            path.append(image)
            own = relation != "exec" and image.proc_id == proc_id
            if own and image.file == AGENT and image.argv0 == "claude" and verdict.uid == OWNER:
                found = (proc_id, exec_id, len({step[0] for step in steps[: len(path)]}) - 1)
                break
        principal = verdict.principal
        assert (principal and (principal.proc_id, principal.exec_id, principal.depth)) == found
        assert principal is None or principal.is_caller == (steps[0][:2] == found[:2])
        tampered = self.world.family.tampered
        assert verdict.taints or steps[0][:2] not in tampered
        if principal is not None:
            assert verdict.taints or not images[principal.exec_id].injected
            assert verdict.taints or (principal.proc_id, principal.exec_id) not in tampered


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(attest_module, "_DRAIN_PAUSE_S", 0)
    monkeypatch.setattr(attest_module, "_DRAIN_TRIES", 3)


@pytest.fixture(params=[True, False], ids=["the-ring-tells-what-it-holds-back", "the-ring-does-not-tell"])
def machine(request):
    with asyncio.Runner() as runner:

        class InLoop(LostEvents):
            loop = runner.get_loop()
            tells = request.param

        yield InLoop


def test_every_answer_is_right_or_unknown(machine):
    test = machine.TestCase()
    test.settings = settings(max_examples=300, stateful_step_count=40, deadline=None, report_multiple_bugs=False)
    test.runTest()
