"""The attack matrix: each attack turns out as declared, and docs/attack-matrix.md says what was measured."""

import pytest

from tests.e2e.attacks.main import CANNOT_RUN
from tests.e2e.attacks.show import DOCUMENT
from tests.e2e.attacks.table import ROWS
from tests.e2e.measured import report_of

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the matrix says on this machine; a process of its own, since it leaves the machine's network."""
    return report_of("tests.e2e.attacks.main", CANNOT_RUN, tmp_path_factory.mktemp("attacks"))


def test_every_attack_turns_out_as_declared(measured):
    assert measured["differ"] == [], measured["said"]
    assert measured["rows"] == len(ROWS)


def test_the_document_says_what_was_measured(measured):
    assert DOCUMENT.read_text() == measured["document"], "run: make attacks"


def test_a_row_that_gets_something_says_what_stops_it():
    assert [row.name for row in ROWS if (row.gets != "nothing") != bool(row.stopped_by)] == []


def test_every_attack_has_a_name_of_its_own():
    assert len({row.name for row in ROWS}) == len(ROWS)
