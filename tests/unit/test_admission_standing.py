import os
import subprocess

from agent_broker.admission import standing
from agent_broker.admission.standing import BURST, PER_S, REFUSAL_COST, Lane, ProcessKey, Standings, process_key

A, B = ProcessKey(1), ProcessKey(2)


class Time:
    now_s = 100.0

    def __call__(self):
        return self.now_s


def connections_of(standings, process, most=1000):
    return next((n for n in range(most) if not standings.may_connect(process)), most)


def test_a_process_that_connects_again_and_again_is_turned_away_and_no_other():
    standings = Standings(Time())
    assert connections_of(standings, A) == BURST
    assert standings.may_connect(B)


def test_it_is_heard_again_when_it_waited():
    time = Time()
    standings = Standings(time)
    connections_of(standings, A)
    time.now_s += 1
    assert connections_of(standings, A) == PER_S
    time.now_s += 3600
    assert connections_of(standings, A) == BURST


def test_refusals_cost_more_than_connections():
    standings = Standings(Time())
    for _ in range(int(BURST / (REFUSAL_COST + 1)) + 1):
        assert standings.may_connect(A)
        standings.refused(A)
    assert not standings.may_connect(A)


def test_who_is_served_is_not_counted():
    standings = Standings(Time())
    standings.served(A)
    assert connections_of(standings, A) == 1000
    assert standings.lane(A) is Lane.SERVED


def test_a_process_that_is_served_now_and_then_does_not_flood_refusals_in_between():
    standings = Standings(Time())
    for _ in range(int(BURST / REFUSAL_COST)):
        standings.served(A)
        standings.refused(A)
    standings.served(A)
    assert not standings.may_connect(A)


def test_questions_of_the_refused_wait_behind_the_others_until_it_is_forgotten():
    time = Time()
    standings = Standings(time)
    standings.refused(A)
    assert (standings.lane(A), standings.lane(B), standings.lane(None)) == (Lane.REFUSED, Lane.NEW, Lane.NEW)
    time.now_s += BURST / PER_S
    assert standings.may_connect(A)
    assert standings.lane(A) is Lane.NEW


def test_nothing_is_held_against_a_process_without_a_number():
    standings = Standings(Time())
    standings.refused(None)
    standings.served(None)
    assert connections_of(standings, None) == 1000


def test_what_is_remembered_is_bounded():
    standings = Standings(Time())
    for number in range(10_000):
        standings.refused(ProcessKey(number))
        standings.served(ProcessKey(-number))
    assert (len(standings._buckets), len(standings._served)) == (4096, 1024)


def test_a_process_keeps_its_number_and_no_other_process_gets_it():
    own = os.pidfd_open(os.getpid())
    seen = set()
    for _ in range(20):
        child = subprocess.Popen(["true"])
        pidfd = os.pidfd_open(child.pid)
        seen.add(process_key(pidfd))
        os.close(pidfd)
        child.wait()
    again = os.pidfd_open(os.getpid())
    assert process_key(own) == process_key(again)
    assert len(seen) == (20 if standing._are_pidfds_unique() else 1)
    assert process_key(own) is None or process_key(own) not in seen
    os.close(own)
    os.close(again)
