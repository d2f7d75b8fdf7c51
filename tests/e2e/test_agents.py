"""The real agents: each layout, login and event turns out as declared, and docs/clients.md says what was measured."""

import pytest

from tests.e2e.agents.main import CANNOT_RUN
from tests.e2e.agents.show import DOCUMENT
from tests.e2e.agents.table import DEEDS, WAYS
from tests.e2e.measured import report_of

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What was measured on this machine; a process of its own, since it leaves the machine's network."""
    return report_of("tests.e2e.agents.main", CANNOT_RUN, tmp_path_factory.mktemp("agents"))


def test_every_agent_works_and_is_refused_as_declared(measured):
    assert measured["differ"] == [], measured["said"]
    assert measured["rows"] == len(WAYS) + len(DEEDS)


def test_the_document_says_what_was_measured(measured):
    assert DOCUMENT.read_text() == measured["document"], "run: make clients"


def test_every_way_of_an_agent_is_measured():
    told = {(row.client.name, row.way) for row in WAYS}

    assert told == {(row.client.name, way) for row in WAYS for way in row.client.ways}


def test_every_layout_of_an_agent_is_measured():
    told = {(row.client.name, row.layout) for row in WAYS}

    assert told == {(row.client.name, layout) for row in WAYS for layout in row.client.layouts}


def test_every_row_has_a_name_of_its_own():
    rows = [row.name for row in (*WAYS, *DEEDS)]

    assert len(set(rows)) == len(rows)
