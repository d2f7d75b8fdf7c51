"""The listener's thread makes way for others in a flood of repeats, and has its precedence back after it."""

from agent_broker.monitor.giving_way import REPEATS, WINDOW_S, GivingWay


class Thread:
    """A thread with a clock and a niceness."""

    def __init__(self, niceness=-10):
        self.now_s, self.niceness, self.set = 100.0, niceness, []
        self.refuses = False
        self.way = GivingWay(lambda: self.now_s, lambda: self.niceness, self.be)

    def be(self, niceness):
        if self.refuses:
            raise PermissionError
        self.niceness = niceness
        self.set.append(niceness)

    def answer(self, repeats, after_s=0.0):
        self.now_s += after_s
        self.way.answered(repeats)
        return self.niceness


def flooded():
    thread = Thread()
    for _ in range(REPEATS):
        thread.answer(1, after_s=WINDOW_S / REPEATS / 2)
    return thread


def test_a_few_repeats_take_no_precedence_away():
    thread = Thread()

    assert {thread.answer(1, after_s=2 * WINDOW_S / REPEATS) for _ in range(10 * REPEATS)} == {-10}


def test_many_do_at_once():
    thread = Thread()

    assert (thread.answer(REPEATS - 1), thread.answer(1)) == (-10, 0)


def test_as_long_as_the_flood_lasts_nothing_else_is_set():
    thread = flooded()
    for _ in range(20 * REPEATS):
        thread.answer(1, after_s=WINDOW_S / REPEATS / 2)

    assert thread.set == [0]


def test_the_first_look_after_a_pause_brings_it_back():
    thread = flooded()

    assert (thread.answer(0, after_s=WINDOW_S), thread.answer(0, after_s=2 * WINDOW_S)) == (0, -10)


def test_a_quieter_window_brings_it_back_though_opens_go_on():
    thread = flooded()
    seen = [thread.answer(1, after_s=WINDOW_S / 10) for _ in range(30)]

    assert (seen[0], seen[-1]) == (0, -10)


def test_another_flood_takes_it_away_again():
    thread = flooded()
    thread.answer(0, after_s=2 * WINDOW_S)

    assert thread.answer(REPEATS) == 0
    assert thread.set == [0, -10, 0]


def test_who_has_no_precedence_is_left_as_it_is():
    thread = Thread(niceness=5)

    assert thread.answer(10 * REPEATS) == 5
    assert thread.set == []


def test_a_refusal_of_the_kernel_leaves_it_as_it_is():
    thread = flooded()
    thread.refuses = True

    assert thread.answer(0, after_s=2 * WINDOW_S) == 0
