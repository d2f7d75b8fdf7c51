"""Taking edits back from a file that its owner has changed since."""

import json

import pytest

from agent_broker.enroll.document import new_text
from agent_broker.enroll.json_document import JsonDocument, NotEditableJsonError
from agent_broker.enroll.recipe import RemoveMember, SetMember, Wire
from agent_broker.enroll.reverse import reverse_edits
from agent_broker.enroll.rewrite import rewritten

WIRING = {Wire.PHANTOM: "phantom", Wire.INJECTION_URL: "http://127.0.0.1:917"}
WIRE = (
    SetMember(("env", "BASE_URL"), Wire.INJECTION_URL),
    SetMember(("env", "TOKEN"), Wire.PHANTOM),
    RemoveMember(("env", "KEY")),
    RemoveMember(("helper",)),
)
ORIGINAL = b"""\
{
  "model": "opus", // mine
  "env": {
    "A": "1",
    "KEY": "s\\u0065cret",
    "B": "2"
  },
  "helper": "cmd",
  "last": [1, 2.50]
}
"""


def enroll(original, edits=WIRE):
    data, records, made = rewritten(original, edits, WIRING)
    return data, lambda current: reverse_edits(
        current, new_text("json") if original is None else original, records, made
    )


def test_an_unchanged_file_comes_back_to_the_byte():
    data, reverse = enroll(ORIGINAL)
    assert b"s\\u0065cret" not in data
    assert b'"TOKEN": "phantom"' in data
    assert reverse(data).data == ORIGINAL
    assert reverse(data).conflicts == ()


def test_the_owner_s_changes_stay():
    data, reverse = enroll(ORIGINAL)
    value = JsonDocument(data).value
    value["model"] = "sonnet"
    value["new"] = {"x": 1}
    del value["last"]
    value["env"]["B"] = "3"
    result = reverse(json.dumps(value).encode())  # as an agent rewrites it: other white space
    assert json.loads(result.data) == {
        "model": "sonnet",
        "env": {"A": "1", "KEY": "secret", "B": "3"},
        "helper": "cmd",
        "new": {"x": 1},
    }
    assert list(json.loads(result.data)["env"]) == ["A", "KEY", "B"]
    assert result.conflicts == ()


def test_a_newer_value_in_an_old_place_is_a_conflict_and_stays():
    data, reverse = enroll(ORIGINAL)
    value = JsonDocument(data).value
    value["env"]["KEY"] = "newer"
    result = reverse(json.dumps(value).encode())
    assert json.loads(result.data)["env"] == {"A": "1", "B": "2", "KEY": "newer"}
    assert result.conflicts == (("env", "KEY"),)


def test_a_value_of_the_owner_s_where_we_had_put_one_stays():
    data, reverse = enroll(ORIGINAL)
    value = JsonDocument(data).value
    value["env"]["BASE_URL"] = "https://elsewhere"
    result = reverse(json.dumps(value).encode())
    assert json.loads(result.data)["env"]["BASE_URL"] == "https://elsewhere"
    assert "TOKEN" not in json.loads(result.data)["env"]
    assert result.conflicts == ()


def test_a_value_that_we_had_replaced_comes_back():
    original = b'{"env": {"TOKEN": "mine", "BASE_URL": "https://gateway"}}'
    data, reverse = enroll(original)
    assert reverse(data).data == original
    value = JsonDocument(data).value
    del value["env"]["TOKEN"]
    assert json.loads(reverse(json.dumps(value).encode()).data) == json.loads(original)


def test_what_is_back_already_is_left():
    data, reverse = enroll(ORIGINAL)
    once = reverse(data)
    assert reverse(once.data) == once


def test_an_object_that_we_made_goes_when_it_is_empty():
    data, reverse = enroll(b'{\n  "x": 1\n}\n')
    assert json.loads(data)["env"]
    assert reverse(data).data == b'{\n  "x": 1\n}\n'
    value = json.loads(data)
    value["env"]["MINE"] = "kept"
    assert json.loads(reverse(json.dumps(value).encode()).data) == {"x": 1, "env": {"MINE": "kept"}}


def test_a_made_file_is_empty_again():
    data, reverse = enroll(None)
    assert JsonDocument(reverse(data).data).value == {}


def test_an_object_that_was_deleted_comes_back_whole():
    login = {"oauth": {"accessToken": "real", "scopes": ["a"], "plan": "max"}, "mcp": 1}
    edits = (
        SetMember(("oauth", "accessToken"), "decoy"),
        SetMember(("oauth", "expiresAt"), 9, follows=("oauth", "accessToken")),
    )
    _, reverse = enroll(json.dumps(login).encode(), edits)
    assert json.loads(reverse(b'{"mcp": 1}').data) == login


def test_a_new_login_is_left_alone_even_where_it_equals_the_decoy():
    edits = (
        SetMember(("oauth", "accessToken"), "decoy"),
        SetMember(("oauth", "scopes"), ["a"], follows=("oauth", "accessToken")),
    )
    _, reverse = enroll(None, edits)
    newer = b'{"oauth": {"accessToken": "real", "scopes": ["a"]}}'
    assert reverse(newer).data == newer


def test_a_new_login_over_an_old_one_is_a_conflict():
    edits = (SetMember(("oauth", "accessToken"), "decoy"),)
    _, reverse = enroll(b'{"oauth": {"accessToken": "old"}}', edits)
    newer = b'{"oauth": {"accessToken": "new"}}'
    assert reverse(newer).data == newer
    assert reverse(newer).conflicts == (("oauth", "accessToken"),)


def test_a_file_that_is_not_json_any_more_is_said_so():
    _, reverse = enroll(ORIGINAL)
    for broken in (b"", b"{", b'{"env": 3}'):
        with pytest.raises(NotEditableJsonError):
            reverse(broken)
