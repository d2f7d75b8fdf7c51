"""What normal use of a machine raises: for each program the stated number of alerts, and no more."""

import pytest

from tests.e2e.measured import report_of
from tests.e2e.noise.enrolled import CANNOT_RUN
from tests.e2e.noise.table import DOCUMENT, ENROLLED, ROWS, document
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
    if row.way_to_allow:
        assert row.way_to_allow in incidents[0].next_step


def test_tools_at_their_servers_and_a_real_update_make_as_many_as_stated(tmp_path):
    """A process of its own, since it leaves the machine's network."""
    measured = report_of("tests.e2e.noise.enrolled", CANNOT_RUN, tmp_path)

    assert measured["differ"] == [], measured["said"]
    assert measured["rows"] == [row.name for row in ENROLLED]


def test_the_page_says_what_is_stated():
    assert DOCUMENT.read_text() == document(), "run: python -m tests.e2e.noise.table --write"


def test_every_row_has_a_name_of_its_own():
    rows = [*ROWS, *ENROLLED]

    assert len({row.name for row in rows}) == len(rows)
