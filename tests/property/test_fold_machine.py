"""Folding as a machine: whoever opens whatever how often, each event is counted in one incident; state is bounded."""

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent_broker.monitor import fold
from agent_broker.monitor.fold import Folder, Seen
from agent_broker.monitor.incident import new_incident
from agent_broker.monitor.lines import Line

SECOND_NS = 1_000_000_000
RANK = {"info": 0, "warning": 1, "critical": 2}
MOST = 3
OPENED = {"decoy-opened", "credential-opened"}  # one story, if one line does both
KINDS = (*sorted(OPENED), "config-changed")


class Folding(RuleBasedStateMachine):
    """The model: how many events went in, and everything that was told."""

    def __init__(self):
        super().__init__()
        self.folder = Folder(per_family=MOST)
        self.now_ns = 0
        self.events = 0
        self.told = {}
        self.held = []
        self.latest = {}

    @rule(
        who=st.tuples(st.integers(0, 8), st.integers(0, 8)),
        kind=st.sampled_from(KINDS),
        severity=st.sampled_from(tuple(RANK)),
        deed=st.tuples(st.integers(0, 60), st.sampled_from([1, 1, 1, 7])),
        wait=st.booleans(),
    )
    def event(self, who, kind, severity, deed, wait):
        path, times = deed
        seen = Seen(kind, "served-decoy", severity, f"/d/{path}" if path else "", self.now_ns)
        made = []

        def make():
            made.append(new_incident(
                kind=kind, time_ns=self.now_ns, severity=severity, what="x", tier="t", action=seen.action,
                path=seen.path,
            ))  # fmt: skip
            return made[-1]

        incident_id = self.folder.add(Line(who, who[0]), seen, self.now_ns, make, times=times)
        self.events += times
        assert (incident_id is None) == (not made)
        if incident_id is not None:
            self.held.append((incident_id, made[0]))
            self.latest[incident_id] = made[0].id
            if not wait:
                self.tell_held(len(self.held) - 1)

    @rule(number=st.integers(0, 50))
    def tell_held(self, number):
        if self.held:
            incident_id, complete = self.held.pop(number % len(self.held))
            told = self.folder.tell(incident_id, self.now_ns, complete)
            self.take([] if told is None else [told])

    @rule(seconds=st.sampled_from([0.1, 1, 3, 10, 59, 61, 200]))
    def time_passes(self, seconds):
        self.now_ns += int(seconds * SECOND_NS)
        waiting = {incident_id for incident_id, complete in self.held if complete.id == self.latest[incident_id]}
        due = self.folder.due(self.now_ns)
        assert not waiting & {each.id for each in due}
        self.take(due)

    def take(self, told):
        for each in told:
            self.told.setdefault(each.id, []).append((self.now_ns, each))

    @invariant()
    def revisions_rise_and_nothing_falls(self):
        for tellings in self.told.values():
            assert [each.revision for _, each in tellings] == list(range(len(tellings)))
            for (_, before), (_, after) in pairwise(tellings):
                assert after.count >= before.count
                assert RANK[after.severity] >= RANK[before.severity]
                assert after.time_ns == before.time_ns
                assert after.kind == before.kind or {after.kind, before.kind} <= OPENED
                assert after.last_ns >= before.last_ns

    @invariant()
    def repeats_are_told_ever_more_rarely(self):
        for tellings in self.told.values():
            quiet = [
                now_ns
                for (now_ns, each), (_, before) in zip(tellings[1:], tellings, strict=False)
                if each.severity == before.severity and each.count > before.count
            ]
            for earlier, later in pairwise(quiet):
                assert later - earlier >= fold.FIRST_WAIT_S * SECOND_NS

    @invariant()
    def state_is_bounded(self):
        for each in self.folder._folds.values():
            assert len(each.files) <= fold.MAX_PATHS + 1
            assert sum(each.files.values()) + each.unlisted == each.count
        assert len(self.folder) <= len(KINDS) * (MOST * (MOST + 1) + 1)

    def teardown(self):
        while self.held:
            self.tell_held(0)
        self.take(self.folder.close())
        assert sum(tellings[-1][1].count for tellings in self.told.values()) == self.events
        assert len(self.folder) == 0


TestFolding = Folding.TestCase
TestFolding.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
