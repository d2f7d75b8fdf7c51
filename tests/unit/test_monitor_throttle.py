"""One incident a program and decoy, few a decoy, and nothing uncounted."""

from agent_broker.monitor.throttle import MAX_REPORTS, WINDOW_NS, Throttle

PATH = "/home/ann/decoy"


def test_a_burst_of_one_program_is_reported_once_and_counted():
    throttle = Throttle()

    told = [throttle.admit(("exec", 1), PATH, step * 5_000_000) for step in range(10)]

    assert told == [0] + [None] * 9
    assert throttle.repeats == 9
    assert throttle.admit(("exec", 1), PATH, WINDOW_NS) == 9


def test_another_program_and_another_decoy_are_reported():
    throttle = Throttle()
    throttle.admit(("exec", 1), PATH, 0)

    assert throttle.admit(("exec", 2), PATH, 1) == 0
    assert throttle.admit(("exec", 1), "/home/bob/decoy", 2) == 0


def test_a_crowd_is_cut_and_told_when_its_window_is_over():
    throttle = Throttle()

    told = [throttle.admit(("exec", number), PATH, number) for number in range(MAX_REPORTS + 40)]

    assert told.count(0) == MAX_REPORTS
    assert throttle.is_crowded
    assert throttle.overflows(WINDOW_NS - 1) == []
    assert throttle.overflows(WINDOW_NS) == [(PATH, 40)]
    assert not throttle.is_crowded
    assert throttle.admit(("exec", "later"), PATH, WINDOW_NS) == 0


def test_a_crowd_at_one_decoy_hides_nothing_at_another():
    throttle = Throttle()
    for number in range(MAX_REPORTS * 2):
        throttle.admit(("exec", number), PATH, 0)

    assert throttle.admit(("exec", "victim"), "/home/bob/decoy", 1) == 0


def test_a_quiet_window_starts_over_without_a_flush():
    throttle = Throttle()
    for number in range(MAX_REPORTS):
        throttle.admit(("exec", number), PATH, 0)

    assert throttle.admit(("exec", "next"), PATH, WINDOW_NS) == 0
    assert throttle.overflows(3 * WINDOW_NS) == []


def test_memory_is_bounded():
    throttle = Throttle()

    for number in range(10_000):
        throttle.admit(("exec", number), f"/{number}", 0)

    assert len(throttle._programs) == 4096
