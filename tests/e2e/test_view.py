"""A file's view with both daemons and the real npm: who reads what, who writes, and what is told of it."""

import pytest

from tests.e2e.measured import report_of
from tests.e2e.view.hammer import hammer
from tests.e2e.view.main import CANNOT_RUN

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

USER, TYPED, TOOL = "another program", "a terminal", "the agent's tool"


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What happened on this machine; in a process of its own, since it leaves the machine's network."""
    return report_of("tests.e2e.view.main", CANNOT_RUN, tmp_path_factory.mktemp("view"))


def test_the_file_becomes_a_link_and_the_secret_is_in_no_file(played):
    told = played["enrolled"]
    assert told["is link"]
    assert told["secret in"] == []
    assert told["listed"] == [".npmrc"]


def test_strangers_read_a_decoy_and_root_reads_nothing(played):
    assert played["enrolled"]["cat"] == "decoy"
    assert "decoy-opened" in played["enrolled"]["alerts"]
    assert played["enrolled"]["root"] == "Permission denied"


def test_npm_works_for_its_owner_and_for_the_agent_only_by_a_rule(played):
    told = played["readers"]
    assert (told[USER], told[TYPED], told["the agent's npm, allowed"]) == ("IN", "IN", "IN")
    assert told[TOOL] == "npm error code ENEEDAUTH"
    assert told["the agent's cat, npm allowed"] == "decoy"
    assert told["alerts"] == ["decoy-opened"]


@pytest.mark.parametrize(
    "who",
    [
        "node",
        "a script called npm-cli.js",
        "a script of npm run",
        "NODE_OPTIONS",
        "LD_PRELOAD",
        "another pid namespace",
    ],
)
def test_who_is_not_npm_alone_gets_the_decoy(played, who):
    assert played["impostors"][who] == "decoy"


def test_strangers_write_nothing(played):
    assert "Permission denied" in played["impostors"]["written"]
    assert "Permission denied" in played["impostors"]["temporary beside"]


def test_each_stranger_is_told_of(played):
    assert played["impostors"]["alerts"].count("decoy-opened") >= 6


def test_what_npm_writes_through_the_link_is_in_the_vault(played):
    told = played["written"]
    assert (told["whoami after"], told["kept"], told["still a link"]) == ("IN", "7", True)
    assert not told["down"]


def test_unenroll_gives_what_was_written_or_every_byte(played):
    assert played["unenrolled"] == {"written": True, "as it was": True, "whoami": "IN"}


def test_codex_refreshes_its_login_through_the_link(played):
    told = played["refreshed"]
    assert (told["refreshes"], told["still a link"]) == (1, True)
    assert [each for each in told["sent"] if "mock-access-1" not in each] == []
    assert (told["a stranger saw"], told["in files"]) == ([], [])
    assert told["given back"] == ["mock-access-1", "mock-refresh-1"]


def test_gemini_refreshes_its_login_in_place_through_the_link(played):
    told = played["gemini_refreshed"]
    assert (told["refreshes"], told["still a link"]) == (1, True), told["said"]
    assert len(told["sent"]) == 1
    assert "Bearer ya29.the-new-one-of-the-test" in told["sent"][0]
    assert (told["a stranger saw"], told["in files"], told["alerts"]) == ([], [], ["decoy-opened"])
    assert told["given back"] == [True, told["refresh token"]]


def test_nobody_sees_the_other_view_while_all_read_at_once():
    assert [each.problem for each in hammer(3)] == [""] * 7
