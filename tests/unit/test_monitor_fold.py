"""Folding by example; what holds for every sequence of events is in tests/property/test_fold_machine.py."""

import pytest

from agent_broker.monitor import fold
from agent_broker.monitor.fold import Folder, Seen
from agent_broker.monitor.incident import new_incident
from agent_broker.monitor.lines import Line

SECOND_NS = 1_000_000_000


class Desk:
    def __init__(self, per_family=3):
        self.folder = Folder(per_family=per_family)
        self.now_ns = 0

    def event(self, line=1, family=1, *, path="/d", severity="critical", offenders=(), agent=None, tell=True):
        """Return (the id that must be told, or None; what was made; what was told)."""
        made = new_incident(
            kind="decoy-opened", time_ns=self.now_ns, severity=severity, what=f"{severity} of {line}", tier="t",
            action="served-decoy", path=path, offenders=offenders,
        )  # fmt: skip
        seen = Seen(made.kind, made.action, severity, path, self.now_ns)
        incident_id = self.folder.add(Line((family, line), family, agent, line), seen, self.now_ns, lambda: made)
        told = self.folder.tell(incident_id, self.now_ns, made) if incident_id is not None and tell else None
        return incident_id, made, told

    def after(self, seconds):
        self.now_ns += int(seconds * SECOND_NS)
        return self.folder.due(self.now_ns)


def test_the_first_event_is_told_at_once_as_it_is():
    _, made, told = Desk().event()

    assert (told.id, told.revision, told.count, told.what) == (made.id, 0, 1, "critical of 1")


def test_repeats_are_told_after_a_second_and_then_ever_more_rarely_until_it_is_quiet():
    desk = Desk()
    desk.event()
    told = []
    for _ in range(3000):
        desk.event()
        told += [(desk.now_ns // (SECOND_NS // 10), each.count) for each in desk.after(0.1)]

    assert [tenths for tenths, _ in told] == [10, 30, 70, 150, 310, 630, 1230, 1830, 2430]
    assert desk.after(fold.PAUSE_S)[0].count == 3001
    assert desk.after(fold.QUIET_S) == []
    assert len(desk.folder) == 0


def test_after_it_was_quiet_it_is_another_incident():
    desk = Desk()
    first = desk.event()[0]
    desk.after(fold.QUIET_S)

    assert desk.event()[0] not in {None, first}


def test_a_worse_event_is_told_at_once_with_what_it_says_and_keeps_the_id():
    desk = Desk()
    first, _, _ = desk.event(severity="info", path="/a")
    assert desk.event(severity="warning", path="/b")[2].severity == "warning"
    incident_id, _, told = desk.event(severity="critical", path="/c")

    assert (incident_id, told.id, told.revision, told.count) == (first, first, 2, 3)
    assert (told.path, told.paths) == ("/c", ("/a", "/b"))
    assert told.what.startswith("critical of 1; 3 times in all, in 3 places")
    assert desk.event(severity="info")[0] is None


def test_details_of_an_event_that_was_overtaken_by_a_worse_one_are_not_told():
    desk = Desk()
    incident_id, first, _ = desk.event(severity="warning", tell=False)
    _, worse, _ = desk.event(severity="critical", tell=False)

    assert desk.folder.tell(incident_id, desk.now_ns, first) is None
    told = desk.folder.tell(incident_id, desk.now_ns, worse)
    assert (told.severity, told.revision, told.count) == ("critical", 0, 2)


@pytest.mark.parametrize("number", [10, 100])
def test_files_beyond_the_bound_are_counted(number):
    desk = Desk()
    for each in range(number):
        desk.event(path=f"/d/{each}")
    (told,) = desk.folder.close()

    assert told.paths == tuple(f"/d/{each}" for each in range(1, min(number, fold.MAX_PATHS + 1)))
    further = number - len(told.paths) - 1
    assert (f"{further} times, in further ones" in told.what) == (further > 0)


def test_a_worse_event_is_named_although_the_list_is_full():
    desk = Desk()
    for each in range(50):
        desk.event(path=f"/d/{each}", severity="info")
    *_, told = desk.event(path="/worst")

    assert told.path == "/worst"
    assert len(told.paths) == fold.MAX_PATHS
    assert "18 times, in further ones" in told.what  # 50 files without the 32 that are named


def test_long_names_are_bounded_together():
    desk = Desk()
    for each in range(30):
        desk.event(path=f"/{each}/" + "x" * 4000)

    (told,) = desk.folder.close()
    assert sum(map(len, told.paths)) < 8192


def test_programs_beyond_the_bound_share_an_incident_that_holds_their_agent_responsible():
    desk = Desk()
    for line in range(10):
        desk.event(line, offenders=(line,), agent=99)
    told = desk.folder.close()

    assert [each.count for each in told] == [7]
    assert told[0].offenders == (3, 99)
    assert "more than 3 of which" in told[0].what


def test_families_beyond_the_bound_share_one_and_its_offenders_are_bounded():
    desk = Desk()
    for family in range(200):
        desk.event(1000 + family, family, offenders=(family,))
    (told,) = desk.folder.close()

    assert told.count == 197
    assert len(told.offenders) == fold.MAX_OFFENDERS
    assert set(told.offenders[1:]) <= set(range(1000, 1200))


def test_when_a_crowd_is_over_programs_are_told_one_by_one_again():
    desk = Desk()
    for family in range(10):
        for line in range(10):
            desk.event(line, family)
    desk.after(fold.QUIET_S)

    assert [desk.event(1, family)[2].count for family in range(50, 53)] == [1, 1, 1]
    assert len({desk.event(line, 50)[0] for line in range(2, 4)}) == 2
    assert not any("stands for" in each.what for each in desk.folder.close())


def test_a_crowd_of_incidents_is_bounded_in_all(monkeypatch):
    monkeypatch.setattr(fold, "MAX_OPEN", 20)
    desk = Desk(per_family=100)
    for family in range(30):
        for line in range(30):
            desk.event(line, family)

    assert len(desk.folder) == 21
