"""The table of opens: each cell is as declared, and docs/open-table.md says what was measured."""

import pytest

from tests.e2e.measured import report_of
from tests.e2e.opens.main import CANNOT_RUN
from tests.e2e.opens.mechanisms import MECHANISMS
from tests.e2e.opens.places import FORMS
from tests.e2e.opens.show import DOCUMENT

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the table says on this machine; a process of its own, since it leaves the machine's mounts."""
    return report_of("tests.e2e.opens.main", CANNOT_RUN, tmp_path_factory.mktemp("opens"))


def test_every_cell_is_as_declared(measured):
    assert measured["differ"] == [], measured["said"]
    assert measured["cells"] == len(MECHANISMS) * len(FORMS)


def test_the_document_says_what_was_measured(measured):
    assert DOCUMENT.read_text() == measured["document"], "run: make attacks"


def test_every_mechanism_has_a_name_of_its_own():
    assert len({row.name for row in MECHANISMS}) == len(MECHANISMS)
