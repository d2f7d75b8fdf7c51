"""The real tools: each row turns out as declared, and docs/clients-tools.md says what was measured."""

import pytest

from tests.e2e.clients.main import CANNOT_RUN
from tests.e2e.clients.row import REFUSED, WORKS
from tests.e2e.clients.show import DOCUMENT
from tests.e2e.clients.table import CLIENTS
from tests.e2e.clients.world import AGENT, TERMINAL
from tests.e2e.measured import report_of, without_versions

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What was measured on this machine; a process of its own, since it leaves the machine's network."""
    return report_of("tests.e2e.clients.main", CANNOT_RUN, tmp_path_factory.mktemp("tools"))


def test_every_tool_works_and_is_refused_as_declared(measured):
    assert measured["differ"] == [], measured["said"]
    assert measured["rows"] == sum(len(client.cases) + 2 for client in CLIENTS)


def test_the_document_says_what_was_measured(measured):
    assert without_versions(DOCUMENT.read_text()) == without_versions(measured["document"]), "run: make clients"


def test_another_version_is_no_difference_and_another_result_is():
    line = "| git | 2.39.5 | a terminal | fetches | works |\n"

    assert without_versions(line.replace("2.39.5", "2.50")) == without_versions(line)
    assert without_versions(line.replace("works", "refused")) != without_versions(line)


def test_every_row_has_a_name_of_its_own():
    rows = [(client.name or client.tool, row.what, row.who) for client in CLIENTS for row in client.cases]

    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name or client.tool)
def test_each_client_works_for_an_agent_and_on_a_terminal_and_is_refused_to_an_agent(client):
    proven = {(row.who, row.result) for row in client.rows}

    assert {(AGENT, WORKS), (TERMINAL, WORKS), (AGENT, REFUSED)} <= proven
