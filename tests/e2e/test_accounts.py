"""Several keys, several users, containers, a hostile repository: the real Claude Code, and what came of each turn."""

import json

import pytest

from tests.e2e.accounts.main import CANNOT_RUN
from tests.e2e.measured import report_of

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
REPLAYED = "phantom-replayed"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What every scenario told; a process of its own, since it leaves the machine's network and mounts."""
    return report_of("tests.e2e.accounts.main", CANNOT_RUN, tmp_path_factory.mktemp("accounts"))


def served(seen, key, credential="api-key"):
    """The turn worked, with this key alone, and the journal says so."""
    assert seen["code"] == 0, seen
    assert set(seen["keys"]) == {key}, seen
    assert {each.split("/", 2)[2] for each in seen["used"]} == {credential}, seen
    return not seen["refused"] and not seen["alerts"]


def refused(seen, rule, why):
    """Nothing was used, no key left, and the reason is in the journal."""
    assert seen["keys"] == seen["used"] == [], seen
    assert rule in seen["refused"], seen
    assert any(why in each for each in seen["why"]), seen
    return True


class TestTwoKeys:
    def test_the_folder_decides_and_the_longest_one_wins(self, told):
        keys = told["two_keys"]
        assert served(keys["elsewhere"], "API key")
        assert served(keys["inside"], "private key", "private/api-key")
        assert served(keys["beside"], "API key")
        assert served(keys["back"], "API key")
        assert served(keys["run inside"], "private key", "private/api-key")

    def test_what_is_named_wins_over_the_folder(self, told):
        assert served(told["two_keys"]["as private"], "private key", "private/api-key")
        assert served(told["two_keys"]["as work"], "API key")

    def test_an_account_that_is_not_known_is_refused_before_anything_starts(self, told):
        seen = told["two_keys"]["unknown"]
        assert (seen["code"], seen["keys"], seen["used"]) == (3, [], [])
        assert "no account of that name here; it has: work" in seen["said"]
        assert "agent-broker account add" in seen["said"]

    def test_nothing_of_a_removed_account_is_left(self, told):
        keys = told["two_keys"]
        assert [each["account"] for each in json.loads(keys["registry"])] == ["work", "private"]
        assert (keys["rule"], keys["rule after"]) == (True, False)
        assert served(keys["removed"], "API key")
        assert not any("private" in each["id"] for each in json.loads(keys["credentials"]))


def worked(seen, key, credential, path):
    """As served(); the files of this login were written by the test, which is told of if it is not at once."""
    seen = {**seen, "alerts": [each for each in seen["alerts"] if each != "credential-opened"]}
    assert all(path in each for each in seen["targets"]), seen
    return served(seen, key, credential)


API, CHATGPT = "/v1/responses", "/backend-api/codex/responses"
GEMINI, CODE_ASSIST = "/v1beta/models/", "/v1internal:"


class TestCodexKeys:
    def test_the_folder_decides_between_keys_and_a_login_which_goes_to_its_own_service(self, told):
        keys = told["codex_keys"]
        assert worked(keys["elsewhere"], "enrolled API key", "api-key", API)
        assert worked(keys["inside"], "private API key", "private/api-key", API)
        assert worked(keys["login"], "chat access token", "chat/oauth", CHATGPT)

    def test_what_is_named_wins_over_the_folder(self, told):
        keys = told["codex_keys"]
        assert worked(keys["as private"], "private API key", "private/api-key", API)
        assert worked(keys["as chat"], "chat access token", "chat/oauth", CHATGPT)
        assert worked(keys["as work"], "enrolled API key", "api-key", API)

    def test_an_account_that_is_not_known_is_refused_before_anything_starts(self, told):
        seen = told["codex_keys"]["unknown"]
        assert (seen["code"], seen["keys"], seen["used"]) == (3, [], [])
        assert "codex has no account of that name here; it has: work" in seen["said"]

    def test_what_enrolment_left_in_the_file_is_no_key_of_an_account(self, told):
        assert told["codex_keys"]["decoy"].startswith("2 ")
        assert "the decoy that enrolment left" in told["codex_keys"]["decoy"]

    def test_an_accounts_phantom_is_worthless_in_another_program_and_in_another_agent(self, told):
        keys = told["codex_keys"]
        assert keys["replayed"]["said"].split() == ["tcp", "403", "unix", "403"]
        assert refused(keys["replayed"], "principal", "not codex")
        assert refused(keys["claude's in codex"], "principal", "the credential is claude's, the caller is codex's")
        assert refused(keys["codex's in claude"], "principal", "the credential is codex's, the caller is claude's")
        for name in ("replayed", "claude's in codex", "codex's in claude"):
            assert keys[name]["alerts"] == [REPLAYED], name

    def test_nothing_of_a_removed_account_is_left(self, told):
        seen = told["codex_keys"]["of a removed one"]
        assert seen["keys"] == seen["used"] == []
        assert "this phantom token is not known here" in seen["said"]
        assert worked(told["codex_keys"]["removed"], "enrolled API key", "api-key", API)
        kept = [each for each in told["codex_keys"]["credentials"] if each.startswith("codex/")]
        assert not any("private" in each or "chat" in each for each in kept)


class TestGeminiKeys:
    def test_the_folder_decides_between_keys(self, told):
        keys = told["gemini_keys"]["key"]
        assert worked(keys["elsewhere"], "enrolled API key", "api-key", GEMINI)
        assert worked(keys["inside"], "private API key", "private/api-key", GEMINI)
        assert worked(keys["as work"], "enrolled API key", "api-key", GEMINI)

    def test_the_folder_decides_between_logins(self, told):
        assert worked(told["gemini_keys"]["login"]["inside"], "private access token", "private/oauth", CODE_ASSIST)

    def test_run_chooses_between_a_key_and_a_login(self, told):
        keys = told["gemini_keys"]
        assert worked(keys["key"]["as other"], "other access token", "other/oauth", CODE_ASSIST)
        assert worked(keys["login"]["as other"], "other API key", "other/api-key", GEMINI)

    @pytest.mark.parametrize("enrolled", ["key", "login"])
    @pytest.mark.parametrize("how", ["other by folder", "other assigned"])
    def test_a_folder_cannot_choose_between_a_key_and_a_login(self, told, enrolled, how):
        said = told["gemini_keys"][enrolled][how]
        assert said.startswith("2 ")
        assert "a folder can't choose between them" in said
        assert "agent-broker run --as NAME gemini" in said


class TestHostileRepository:
    def test_by_settings_the_thief_gets_a_phantom_and_no_key(self, told):
        seen = told["repository"]["settings"]
        assert seen["thief_was_asked"]
        assert seen["thief_has_phantom"]
        assert seen["helper_ran"]
        assert seen["hook_ran"]
        assert not seen["thief_has_key"]
        assert seen["keys"] == []

    def test_what_the_thief_got_is_refused_to_it_and_raises_the_alert(self, told):
        seen = told["repository"]["replay"]
        assert seen["said"].split() == ["tcp", "403", "unix", "403"]
        assert refused(seen, "principal", "not claude")
        assert seen["alerts"] == [REPLAYED]

    def test_by_run_the_thief_is_not_asked_at_all_and_the_agent_works(self, told):
        seen = told["repository"]["run"]
        assert served(seen, "API key")
        assert not seen["thief_was_asked"]
        assert not seen["helper_ran"]
        assert seen["hook_ran"]  # a project's hooks run: they get the phantom, as every tool does
        assert not seen["thief_has_key"]

    def test_the_agent_works_on(self, told):
        assert served(told["repository"]["afterwards"], "API key")

    @pytest.mark.parametrize("how", ["managed", "managed and run"])
    def test_under_managed_settings_the_thief_is_not_asked_and_its_helper_does_not_run(self, told, how):
        seen = told["managed"][how]
        assert served(seen, "API key")
        assert not seen["thief_was_asked"]
        assert not seen["helper_ran"]
        assert not seen["thief_has_key"]

    def test_claude_takes_nothing_of_managed_settings_with_a_comment_so_we_refuse_them(self, told):
        assert "none of its settings are in effect" in told["managed"]["with a comment"]["said"]
        assert "comment" in told["managed"]["set with a comment"]
        assert told["managed"]["set"] == 0

    def test_managed_settings_go_as_they_came(self, told):
        assert told["managed"]["as it was"]
        assert told["managed"]["phantom stays"]
        assert told["managed"]["twice"] == 2
        assert served(told["managed"]["afterwards"], "API key")


class TestTwoUsers:
    def test_each_uses_their_own_key(self, told):
        assert told["two_users"]["phantoms differ"]
        assert served(told["two_users"]["first"], "API key")
        assert served(told["two_users"]["second"], "second API key")

    @pytest.mark.parametrize("what", ["first's by second", "second's by first"])
    def test_the_others_phantom_is_worthless_in_a_program_and_in_ones_own_agent(self, told, what):
        for who in ("program", "agent"):
            seen = told["two_users"][f"{what}: {who}"]
            assert refused(seen, "owner", "belongs to another user")
            assert seen["alerts"] == [REPLAYED]

    def test_the_others_settings_in_ones_own_home_are_worthless(self, told):
        seen = told["two_users"]["own home, other's agent"]
        assert refused(seen, "owner", "belongs to another user")
        assert seen["alerts"] == [REPLAYED]

    def test_the_brokers_socket_gives_each_user_their_own_phantom(self, told):
        assert told["two_users"]["shim of first"] == "first's"
        assert told["two_users"]["shim of second"] == "second's"

    def test_the_first_works_on(self, told):
        assert served(told["two_users"]["first afterwards"], "API key")


class TestContainers:
    @pytest.mark.parametrize("namespaces", ["mount+pid", "mount+pid+net"])
    def test_roots_container_works_with_the_socket_bind_mounted(self, told, namespaces):
        assert served(told["containers"][namespaces], "API key")

    def test_loopback_does_not_reach_out_of_a_network_namespace(self, told):
        seen = told["containers"]["net by tcp"]
        assert "unreachable" in seen["said"]
        assert seen["keys"] == seen["used"] == seen["refused"] == []

    def test_an_executable_of_the_images_own_is_nobody_until_it_is_enrolled(self, told):
        assert refused(told["containers"]["own binary"], "principal", "not claude")
        assert served(told["containers"]["own binary, enrolled"], "API key")

    @pytest.mark.parametrize("namespaces", ["rootless", "rootless+net"])
    def test_a_user_namespace_is_refused_with_the_reason(self, told, namespaces):
        assert refused(told["containers"][namespaces], "taint", "started in a user namespace")

    def test_another_program_in_the_container_is_refused_and_raises_the_alert(self, told):
        seen = told["containers"]["replay inside"]
        assert seen["said"].split() == ["unix", "403"]
        assert refused(seen, "principal", "not claude")
        assert seen["alerts"] == [REPLAYED]

    def test_another_user_in_the_container_is_refused(self, told):
        assert refused(told["containers"]["uid of another"], "owner", "belongs to another user")

    def test_the_agent_outside_works_on(self, told):
        assert served(told["containers"]["outside"], "API key")
