"""Any document in any layout: an edit changes its member and nothing else."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_broker.enroll.json_document import MISSING, JsonDocument, NotEditableJsonError, value_at
from agent_broker.enroll.json_edit import FIRST, remove_member, set_raw, set_value

KEYS = st.text(max_size=4) | st.sampled_from(["env", "a", "b", "//", "/*", "*/", '"'])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
SPACE = st.text(alphabet=" \t\n\r", max_size=3)
COMMENT = st.sampled_from(["// c\n", "/* c */", "/* \n */", '// \u00e9 "x": 1, }\r\n', "/**/"])


@st.composite
def gaps(draw):
    return draw(SPACE) + draw(st.one_of(st.just(""), st.just(""), st.just(""), COMMENT)) + draw(SPACE)


@st.composite
def written(draw, value):
    """Write a value with arbitrary white space and comments wherever the grammar has room for them."""

    def text_of(item):
        if isinstance(item, dict):
            parts = [
                draw(gaps()) + json.dumps(key, ensure_ascii=draw(st.booleans())) + draw(gaps()) + ":" + draw(gaps())
                + text_of(inner) + draw(gaps())
                for key, inner in item.items()
            ]  # fmt: skip
            return "{" + (",".join(parts) if parts else draw(gaps())) + "}"
        if isinstance(item, list):
            return "[" + ",".join(draw(gaps()) + text_of(inner) + draw(gaps()) for inner in item) + "]"
        return json.dumps(item, ensure_ascii=True)

    return draw(gaps()) + text_of(value) + draw(gaps())


@st.composite
def documents(draw):
    value = draw(OBJECTS)
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return value, bom + draw(written(value)).encode("utf-8", "surrogatepass")


@st.composite
def paths(draw, value):
    """Existing and new paths, down to three keys; only through objects."""
    path = ()
    for _ in range(draw(st.integers(1, 3))):
        known = list(value) if isinstance(value, dict) else []
        key = draw(st.sampled_from(known) | KEYS) if known else draw(KEYS)
        path = (*path, key)
        value = value.get(key, {}) if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            break
    return path


def with_value(value, path, new):
    copied = dict(value)
    copied[path[0]] = new if len(path) == 1 else with_value(copied.get(path[0], {}), path[1:], new)
    return copied


def without(value, path):
    copied = dict(value)
    if len(path) == 1:
        copied.pop(path[0], None)
    elif path[0] in copied:
        copied[path[0]] = without(copied[path[0]], path[1:])
    return copied


def comments_of(text):
    """Count each comment, with a tokenizer of the test's own: strings first, so nothing inside them counts."""
    found = re.findall(rb'"(?:[^"\\]|\\.)*"|(//[^\n]*|/\*.*?\*/)', text, re.DOTALL)
    return Counter(comment.rstrip() for comment in found if comment)


@given(data=st.data())
def test_set_means_what_json_says(data):
    value, text = data.draw(documents())
    path, new = data.draw(paths(value)), data.draw(VALUES)
    after = data.draw(st.none() | st.just(FIRST) | KEYS)
    edited = set_value(text, path, new, after=after)
    assert JsonDocument(edited).value == with_value(value, path, new)
    assert edited.startswith(b"\xef\xbb\xbf") == text.startswith(b"\xef\xbb\xbf")


@given(data=st.data())
def test_remove_means_what_json_says(data):
    value, text = data.draw(documents())
    path = data.draw(paths(value))
    edited = remove_member(text, path)
    assert JsonDocument(edited).value == without(value, path)
    member = JsonDocument(text).find(path) if value_at(value, path) is not MISSING else None
    inside = JsonDocument(text).body[member.start : member.end] if member else b""
    assert comments_of(edited) == comments_of(text) - comments_of(inside)


@given(data=st.data())
def test_a_new_member_of_the_root_leaves_every_byte_around_it(data):
    """The old text is still there in order: the new one is the old one with something put in between."""
    value, text = data.draw(documents())
    key = data.draw(KEYS.filter(lambda k: k not in value))
    edited = set_value(text, (key,), data.draw(SCALARS))
    remaining = iter(edited)
    if value:
        assert all(byte in remaining for byte in text)
    assert comments_of(edited) == comments_of(text)


@given(
    value=OBJECTS,
    indent=st.sampled_from([None, 1, 2, 4, "\t"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    data=st.data(),
)
def test_a_removed_member_goes_back_to_the_very_byte(value, indent, newline, data):
    """In a layout that programs write, removal and putting back behind the old neighbour cancel out."""
    if not value or "" in value:
        return
    text = json.dumps(value, indent=indent).replace("\n", newline).encode() + newline.encode()
    keys = list(value)
    place = data.draw(st.integers(0, len(keys) - 1))
    raw = JsonDocument(text).raw((keys[place],))
    without_it = remove_member(text, (keys[place],))
    if len(keys) == 1:
        return
    assert set_raw(without_it, (keys[place],), raw, after=keys[place - 1] if place else FIRST) == text


@given(value=OBJECTS, indent=st.sampled_from([None, 2, 4, "\t"]), key=KEYS)
def test_a_new_member_taken_out_again_leaves_no_trace(value, indent, key):
    text = json.dumps(value, indent=indent).encode()
    if key in value or (indent and not value):
        return
    assert remove_member(set_value(text, (key,), 1), (key,)) == text


@given(garbage=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_garbage_is_refused_or_meant_the_same_by_json(garbage):
    try:
        document = JsonDocument(garbage)
    except NotEditableJsonError:
        return
    assert document.data == garbage
    if b"/" not in garbage:
        assert document.value == json.loads(garbage.decode("utf-8-sig"))


@given(value=OBJECTS)
def test_whatever_json_writes_is_read(value):
    document = JsonDocument(json.dumps(value).encode())
    assert document.value == value
    for key in value:
        assert json.loads(document.raw((key,))) == value_at(value, (key,))


@given(data=st.data())
def test_what_is_written_with_a_trailing_comma_is_refused(data):
    value = data.draw(OBJECTS)
    text = json.dumps(value)
    with pytest.raises(NotEditableJsonError):
        JsonDocument((text[:-1] + ",}").encode())
