"""Edits of single members, byte for byte."""

import pytest

from agent_broker.enroll.json_document import MISSING, JsonDocument, NotEditableJsonError, value_at
from agent_broker.enroll.json_edit import FIRST, remove_member, set_raw, set_value
from agent_broker.errors import IntegrityError

SETTINGS = b"""\
{
  "model": "opus",  // my favourite
  "env": {
    "ANTHROPIC_API_KEY": "k",
    "EDITOR": "vi" /* or emacs */
  },
  "permissions": {"allow": ["Bash(ls:*)"], "deny": []}
}
"""


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        (b'{"a": 1}', ("a",), 2, b'{"a": 2}'),
        (b'{"a": 1}', ("b",), "x", b'{"a": 1, "b": "x"}'),
        (b'{"a":1}', ("b",), 2, b'{"a":1,"b":2}'),
        (b'{"a":1,"b":2}\n', ("c",), None, b'{"a":1,"b":2,"c":null}\n'),
        (b"{}", ("a",), 1, b'{"a": 1}'),
        (b"{ }", ("a",), 1, b'{"a": 1}'),
        (b"{\n}\n", ("a",), 1, b'{\n  "a": 1\n}\n'),
        (b'{\r\n\t"a": 1\r\n}\r\n', ("b",), 2, b'{\r\n\t"a": 1,\r\n\t"b": 2\r\n}\r\n'),
        (b'\xef\xbb\xbf{"a": 1}', ("a",), 2, b'\xef\xbb\xbf{"a": 2}'),
        (b'{\n    "a": 1\n}', ("o", "p"), 2, b'{\n    "a": 1,\n    "o": {\n        "p": 2\n    }\n}'),
        (b'{"a": 1}', ("o", "p"), 2, b'{"a": 1, "o": {"p": 2}}'),
        (b'{\n  "o": {}\n}', ("o", "p"), 2, b'{\n  "o": {\n    "p": 2\n  }\n}'),
        (b'{"a": 1 /* c */}', ("b",), 2, b'{"a": 1, /* c */ "b": 2}'),
        (b'{\n  "a": 1 // c\n}', ("b",), 2, b'{\n  "a": 1, // c\n  "b": 2\n}'),
        (b'{\n  "a": 1 // c\r\n}', ("b",), 2, b'{\n  "a": 1, // c\n  "b": 2\r\n}'),
        (b'{"a": 1 // c\n}', ("b",), 2, b'{"a": 1, // c\n  "b": 2\n}'),
        (b"{ // only this\n}", ("b",), 2, b'{ // only this\n  "b": 2\n}'),
        (b"{ /* only this */ }", ("b",), 2, b'{ /* only this */ "b": 2 }'),
        (b'{"a": {"x": 1}}', ("a",), "flat", b'{"a": "flat"}'),
        (b'{"\\u0061": 1}', ("a",), 2, b'{"\\u0061": 2}'),
        (b'{\n  "a" : 1\n}', ("b",), {"c": []}, b'{\n  "a" : 1,\n  "b" : {\n    "c": []\n  }\n}'),
    ],
)
def test_set(before, path, value, after):
    assert set_value(before, path, value) == after


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        (b'{"a": 1}', ("a",), b"{}"),
        (b'{\n  "a": 1\n}\n', ("a",), b"{}\n"),
        (b'{"a": 1, "b": 2, "c": 3}', ("b",), b'{"a": 1, "c": 3}'),
        (b'{"a": 1, "b": 2, "c": 3}', ("c",), b'{"a": 1, "b": 2}'),
        (b'{\n  "a": 1,\n  "b": 2\n}', ("a",), b'{\n  "b": 2\n}'),
        (b'{\n  "a": 1,\n  "b": 2\n}', ("b",), b'{\n  "a": 1\n}'),
        (b'{\n  "a": 1,\n      "b": 2 ,\n\t"c": 3\n}', ("a",), b'{\n      "b": 2 ,\n\t"c": 3\n}'),
        (b'{\n  "a": 1, // a\n  "b": 2 // b\n}', ("a",), b'{\n  // a\n  "b": 2 // b\n}'),
        (b'{\n  "a": 1, // a\n  "b": 2 // b\n}', ("b",), b'{\n  "a": 1 // a\n // b\n}'),
        (b'{"a": 1, // a\n"b": 2}', ("b",), b'{"a": 1 // a\n}'),
        (b'{"a": 1 /* x */, "b": 2}', ("a",), b'{ /* x */"b": 2}'),
        (b'{ // 1\n"a": 1 // 2\n,\n"b": 2}', ("a",), b'{ // 1\n // 2\n"b": 2}'),
        (b'{ // 1\r\n"a": 1,\r\n"b": 2}', ("a",), b'{ // 1\r\n"b": 2}'),
        (b'{\n "a": 1,\n   "b": 2\n}', ("a",), b'{\n   "b": 2\n}'),
        (b'{ /* keep */ "a": 1 }', ("a",), b"{ /* keep */  }"),
        (b'{"o": {"p": 1}, "q": 2}', ("o", "p"), b'{"o": {}, "q": 2}'),
        (b'{"a": 1}', ("b",), b'{"a": 1}'),
        (b'{"a": 1}', ("b", "c"), b'{"a": 1}'),
    ],
)
def test_remove(before, path, after):
    assert remove_member(before, path) == after


@pytest.mark.parametrize(
    ("before", "after_key", "after"),
    [
        (b'{"a": 1, "c": 3}', "a", b'{"a": 1, "b": 2, "c": 3}'),
        (b'{"a": 1, "c": 3}', FIRST, b'{"b": 2, "a": 1, "c": 3}'),
        (b'{"a": 1, "c": 3}', "gone", b'{"a": 1, "c": 3, "b": 2}'),
        (b'{\n  "a": 1, // a\n  "c": 3\n}', "a", b'{\n  "a": 1, // a\n  "b": 2,\n  "c": 3\n}'),
        (b'{\n  "a": 1,\n  "c": 3\n}', FIRST, b'{\n  "b": 2,\n  "a": 1,\n  "c": 3\n}'),
        (b'{"a":1, // a\n "c":3}', "a", b'{"a":1, // a\n  "b":2,\n "c":3}'),
    ],
)
def test_a_new_member_goes_behind_its_neighbour(before, after_key, after):
    assert set_value(before, ("b",), 2, after=after_key) == after


def test_a_user_s_settings_keep_everything_else():
    wired = remove_member(set_value(SETTINGS, ("env", "ANTHROPIC_BASE_URL"), "http://x"), ("env", "ANTHROPIC_API_KEY"))
    assert wired == SETTINGS.replace(b'    "ANTHROPIC_API_KEY": "k",\n', b"").replace(
        b'"vi" /* or emacs */', b'"vi", /* or emacs */\n    "ANTHROPIC_BASE_URL": "http://x"'
    )
    back = set_raw(
        remove_member(wired, ("env", "ANTHROPIC_BASE_URL")), ("env", "ANTHROPIC_API_KEY"), b'"k"', after=FIRST
    )
    assert JsonDocument(back).value == JsonDocument(SETTINGS).value


def test_a_raw_value_is_written_as_given():
    assert set_raw(b'{"a": 1}', ("n",), b"1.50e0") == b'{"a": 1, "n": 1.50e0}'
    with pytest.raises(NotEditableJsonError):
        set_raw(b'{"a": 1}', ("n",), b'1, "other": 2, "a": 3')


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not an object|not JSON"),
        (b"[]", "not an object"),
        (b'"x"', "not an object"),
        (b"{} {}", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "NaN"),
        (b'{"a": 1, "a": 2}', "same key twice"),
        (b'{"o": {"a": 1, "\\u0061": 2}}', "same key twice"),
        (b'{"a": "\xff"}', "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8|not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": "tab\there"}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"a":' * 20000 + b"1" + b"}" * 20000, "nested"),
        (b'{"a": 1} // fine\n/* open', "not JSON"),
    ],
    ids=repr,
)
def test_refused_documents(data, says):
    with pytest.raises(NotEditableJsonError, match=says):
        set_value(data, ("b",), 1)


def test_something_on_the_way_is_not_an_object():
    for edit in (
        lambda: set_value(b'{"env": []}', ("env", "A"), 1),
        lambda: remove_member(b'{"env": 1}', ("env", "A")),
    ):
        with pytest.raises(NotEditableJsonError, match="env is not an object"):
            edit()


def test_an_error_holds_nothing_of_the_document():
    with pytest.raises(NotEditableJsonError) as caught:
        JsonDocument(b'{"key": "sk-ant-secret" "x"}')
    error = caught.value
    assert "sk-ant" not in f"{error!r}{error.__cause__!r}{error.explain()}"
    assert error.__suppress_context__


def test_null_is_not_missing():
    assert value_at({"a": {"b": None}}, ("a", "b")) is None
    assert value_at({"a": {"b": None}}, ("a", "c")) is MISSING
    assert value_at({"a": 1}, ("a", "c")) is MISSING


def test_an_edit_that_means_more_than_its_member_is_not_returned(monkeypatch):
    """The self-check is what stands between a flaw here and a broken settings file."""
    monkeypatch.setattr("agent_broker.enroll.json_edit._line_indent", lambda _body, _at: b'"smuggled": 1, ')
    with pytest.raises(IntegrityError):
        set_value(b'{\n  "a": 1\n}', ("b",), 2)
