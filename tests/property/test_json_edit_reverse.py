"""Whatever a file holds: enrolled and reversed, it means what it meant; in a program's layout, to the byte."""

import json

from hypothesis import given
from hypothesis import strategies as st

from agent_broker.enroll.json_document import JsonDocument
from agent_broker.enroll.recipe import RemoveMember, SetMember
from agent_broker.enroll.reverse import reverse_edits
from agent_broker.enroll.rewrite import rewritten

NAMES = st.sampled_from(["env", "a", "b", "key", "helper"]) | st.text(min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
FLAT = st.dictionaries(NAMES, SCALARS, max_size=4)
OBJECTS = st.dictionaries(NAMES.filter(lambda name: name != "env"), SCALARS | FLAT, max_size=4)
MEMBERS = NAMES.map(lambda name: (name,)) | NAMES.map(lambda name: ("env", name))


@st.composite
def homes(draw):
    value = draw(OBJECTS)
    if draw(st.booleans()):
        value["env"] = draw(FLAT)
    paths = draw(st.lists(MEMBERS.filter(lambda path: path != ("env",)), unique=True, max_size=4))
    fresh = st.text(min_size=12, max_size=12)
    edits = tuple(SetMember(p, draw(fresh)) if draw(st.booleans()) else RemoveMember(p) for p in paths)
    return value, edits


@given(home=homes(), indent=st.sampled_from([None, 2, 4, "\t"]))
def test_there_and_back(home, indent):
    value, edits = home
    original = json.dumps(value, indent=indent).encode()
    data, records, made = rewritten(original, edits, {})
    result = reverse_edits(data, original, records, made)
    assert JsonDocument(result.data).value == value
    assert result.conflicts == ()
    assert reverse_edits(result.data, original, records, made).data == result.data


@given(home=homes(), added=NAMES.filter(lambda name: name != "env"), data=st.data())
def test_a_member_of_the_owner_s_survives(home, added, data):
    value, edits = home
    if (added,) in {edit.path for edit in edits}:
        return
    original = json.dumps(value).encode()
    text, records, made = rewritten(original, edits, {})
    changed = JsonDocument(text).value | {added: "the owner's own"}
    result = reverse_edits(
        json.dumps(changed, indent=data.draw(st.sampled_from([None, 3]))).encode(), original, records, made
    )
    assert JsonDocument(result.data).value == value | {added: "the owner's own"}
