"""Carries out one attack, and measures what it got."""

import time

from tests.demo.check import StepFailedError
from tests.demo.machine import end_processes_of
from tests.demo.memory import grep
from tests.e2e.attacks.alert_log import Incident, pids_of
from tests.e2e.attacks.arena import Arena
from tests.e2e.attacks.row import NOTHING, OUTAGE, SECRET, USE, Outcome, Row
from tests.e2e.attacks.trial import Trial

_LATE_ALERT_S = 30


def measure(arena: Arena, row: Row) -> Outcome:
    """Carry an attack out; return what came of it. What it left running is ended."""
    began_s = time.monotonic()
    before = len(arena.alerts.incidents())
    trial = Trial(arena, row)
    problem = ""
    try:
        row.attack(trial)
        trial.require_ran()
    except StepFailedError as error:
        problem = str(error)
    finally:
        end_processes_of(arena.world.user.pw_uid)
    naming, others = _incidents(arena, trial, before, wanted=row.alert)
    return Outcome(
        row,
        gets=_gets(arena, trial),
        alerts=tuple(sorted({str(each["kind"]) for each in naming})),
        problem=problem,
        seconds=time.monotonic() - began_s,
        loot=trial.shown(),
        others=tuple(f"{each['kind']}: {each['what']}" for each in others),
    )


def _gets(arena: Arena, trial: Trial) -> str:
    if grep(arena.secrets, trial.loot):
        return SECRET
    if trial.used():
        return USE
    return NOTHING if trial.served else OUTAGE


def _incidents(arena: Arena, trial: Trial, before: int, *, wanted: bool) -> tuple[list[Incident], list[Incident]]:
    """Return the new incidents: those that name the attack, and the others."""
    end_s = time.monotonic() + _LATE_ALERT_S
    while True:
        arena.alerts.settle()
        new = [each for each in arena.alerts.incidents()[before:] if each["severity"] != "info"]
        naming = [each for each in new if pids_of(each) & trial.pids]
        if naming or not wanted or time.monotonic() > end_s:
            return naming, [each for each in new if each not in naming]
        time.sleep(0.1)
