"""What normal use of a machine raises: for each program the stated number of alerts, and no more."""

import pytest

from tests.e2e.noise.table import ROWS, WATCHED_CREDENTIALS
from tests.e2e.noise.world import world

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def made():
    with world() as made:
        yield made


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_normal_use_makes_as_many_alerts_as_stated(made, row):
    incidents = made.incidents_of(row.act)

    assert [each.severity for each in incidents] == [row.severity] * row.alerts, [each.what for each in incidents]
    if WATCHED_CREDENTIALS and row.way_to_allow:
        assert row.way_to_allow in incidents[0].next_step


def test_every_row_has_a_name_of_its_own():
    assert len({row.name for row in ROWS}) == len(ROWS)
