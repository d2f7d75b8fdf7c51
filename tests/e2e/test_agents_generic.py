"""Agents whose recipe is data, with the real programs, from npm and PyPI."""

import pytest

from tests.e2e.agents_generic.clients import CLIENTS
from tests.e2e.agents_generic.main import CANNOT_RUN, DOCUMENT
from tests.e2e.measured import report_of

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What was measured on this machine; a process of its own, since it leaves the machine's network."""
    return report_of("tests.e2e.agents_generic.main", CANNOT_RUN, tmp_path_factory.mktemp("generic"))


@pytest.mark.parametrize("name", [client.name for client in CLIENTS])
def test_the_agent_works_by_its_recipe_and_others_are_refused(measured, name):
    assert measured["problems"][name] == ""


def test_the_page_says_what_was_measured(measured):
    assert DOCUMENT.read_text() == measured["document"], "run: make clients"
