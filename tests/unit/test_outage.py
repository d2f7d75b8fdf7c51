"""When the broker says that the monitor is away: once an outage, and not for a restart."""

from agent_broker.daemon.outage import AWAY_S, Outage
from tests.fakes.clock import FakeClock


def test_a_short_outage_is_not_told_and_a_long_one_once():
    clock = FakeClock()
    outage = Outage(clock)
    clock.advance_s(AWAY_S - 1)
    assert outage.failed() is None
    clock.advance_s(1)

    told = outage.failed()

    assert (told.kind, told.severity, told.offenders) == ("monitor-tampered", "critical", ())
    assert (told.time_ns, told.boot_ns) == (clock.wall_ns(), clock.boot_ns())
    clock.advance_s(100)
    assert outage.failed() is None


def test_an_answer_begins_anew():
    clock = FakeClock()
    outage = Outage(clock)
    clock.advance_s(AWAY_S)
    assert outage.failed() is not None
    outage.answered()
    assert outage.failed() is None
    clock.advance_s(AWAY_S)
    assert outage.failed() is not None
