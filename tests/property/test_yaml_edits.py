"""Any YAML: an edit changes its member and nothing else; taken back it means the same, a kubeconfig to the byte."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent_broker.enroll.document import open_document
from agent_broker.enroll.pointer import MISSING, NotEditableError, value_at
from agent_broker.enroll.recipe import RemoveMember, SetMember
from agent_broker.enroll.reverse import reverse_edits
from agent_broker.enroll.rewrite import rewritten

LINES = [
    *["", "  ", "# note", "A: one", "B: 'two'  # note", 'C: "x: y"', "E2: {}", "z:", "D2: null", "A: 2", "---"],
    *["D:\n  x: 1\n  # inside\n  y: {a: b}", "E: {x: 1, n: [a, b]}  # inline", "F:\n- a\n- b: c", "G: |\n  x\n  y"],
    *["H: >-\n    x\n    y\n", "L:\n- name: x\n  y: 1\n- y: 2\n  name: z   # behind", "T: {x: {y: 1}}", "N: x\n  y"],
    *["L2:\n  - name: x\n    D:\n        x: 1\n        z:\n", "I: &a 1", "J: *a", "K: !!str 1", "  A: 1", "\t# tab"],
]
PATHS = [
    *[(name,) for name in "ABCFGHNx"],
    *[("D", "x"), ("D", "z"), ("E", "x"), ("E", "n"), ("E2", "n"), ("T", "x"), ("D2", "x"), ("L", "x"), ("z", "x")],
    *[("L", "x", "y"), ("L", "z", "y"), ("L2", "x", "D", "x"), ("T", "x", "y"), ("a b", 'c"d'), ("a b", "e")],
]
VALUES = st.sampled_from(
    ["", "plain", "two words", "a'b", "a#b", "ä", "x\ny", "yes", "1", {"q": 1, "r": ["a", {"s": None}]}, [], True, None]
)

KEPT_TOKEN = "t0ken-of-alice"
USERS = {
    "alice": "- name: alice\n  user:\n    token: {token}   # until December\n",
    "bob": '- name: bob\n  user: {{token: "{token}", as: root}}\n',
    "carol": "- user:\n    # hers\n    client-certificate-data: Q0VSVA==\n    client-key-data: >-\n      S0VZ\n"
    "      S0VZ\n  name: carol\n",
    "dave": '- {{"name": "dave", "user": {{"token": "{token}"}}}}\n',
    "erin": "-   name:   'erin'\n    user:\n          tokenFile: /home/erin/token\n",
}
HEADS = ["apiVersion: v1\n", "kind: Config\npreferences: {}\n", "# mine\n\n", "current-context: x # now\n", "---\n"]
TAILS = ["", "\n# the end\n", "extensions: []\n", "contexts:\n- name: x\n  context: {cluster: c, user: alice}\n"]
TAKEN = ("token", "tokenFile", "client-certificate-data", "client-key-data")


@st.composite
def files(draw):
    text = "\n".join(draw(st.lists(st.sampled_from(LINES), max_size=7))) + draw(st.sampled_from(["", "\n"]))
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"]))).encode()


@st.composite
def edits(draw):
    paths = draw(st.lists(st.sampled_from(PATHS), unique=True, min_size=1, max_size=3))
    return tuple(SetMember(path, draw(VALUES)) if draw(st.booleans()) else RemoveMember(path) for path in paths)


@st.composite
def kubeconfigs(draw):
    head = "".join(sorted(draw(st.lists(st.sampled_from(HEADS), unique=True)), key=lambda part: part != "---\n"))
    names = draw(st.lists(st.sampled_from(sorted(USERS)), unique=True, min_size=1, max_size=2))
    users = "".join(USERS[name].format(token=KEPT_TOKEN) for name in names)
    text = head + "users:\n" + users + draw(st.sampled_from(TAILS))
    text = text.rstrip("\n") if draw(st.booleans()) else text
    return names, text.replace("\n", draw(st.sampled_from(["\n", "\r\n"]))).encode()


def enrolled(names, data):
    """What enrolling kubectl does to these users."""
    held = open_document("yaml", data).value["users"]
    made = []
    for name in names:
        base = ("users", name, "user")
        wanted = {"apiVersion": "v1", "args": ["kubectl", name], "command": "/shim", "env": None, "provide": True}
        made += [SetMember((*base, "exec", key), value) for key, value in wanted.items()]
        made += [RemoveMember((*base, key)) for key in TAKEN if key in held[name]["user"]]
    return (*made, SetMember(("users", "zz"), {"name": "zz", "user": {"token": "decoy"}}))


@given(files(), edits())
def test_an_edit_changes_its_member_and_nothing_else(original, made):
    try:
        before, new = open_document("yaml", original).value, rewritten(original, made[:1], {}, "yaml")[0]
    except NotEditableError:
        assume(False)
    edit, after = made[0], open_document("yaml", new).value
    assert value_at(after, edit.path) == (edit.value if isinstance(edit, SetMember) else MISSING)
    assert {key: value for key, value in after.items() if key != edit.path[0]} == {
        key: value for key, value in before.items() if key != edit.path[0]
    }
    notes = [line for line in original.splitlines() if line.lstrip().startswith(b"#")]
    assert [line for line in new.splitlines() if line.lstrip().startswith(b"#")] == notes


@given(files(), edits())
def test_there_and_back_means_the_same(original, made):
    try:
        new, records, objects = rewritten(original, made, {}, "yaml")
        back = reverse_edits(new, original, records, objects, "yaml")
    except NotEditableError:
        assume(False)
    assert back.conflicts == ()
    assert open_document("yaml", back.data).value == open_document("yaml", original).value


@given(kubeconfigs())
def test_a_kubeconfig_goes_there_and_back_to_the_byte(case):
    names, original = case
    new, records, objects = rewritten(original, enrolled(names, original), {}, "yaml")

    assert KEPT_TOKEN.encode() not in new
    assert b"S0VZ" not in new
    back = reverse_edits(new, original, records, objects, "yaml")
    assert (back.data, back.conflicts) == (original, ())


@given(kubeconfigs())
def test_what_the_owner_adds_meanwhile_stays(case):
    names, original = case
    new, records, objects = rewritten(original, enrolled(names, original), {}, "yaml")
    changed = open_document("yaml", new).with_value(("current-context",), "other").data
    back = open_document("yaml", reverse_edits(changed, original, records, objects, "yaml").data).value

    assert back == {**open_document("yaml", original).value, "current-context": "other"}


@given(
    files(), st.integers(0, 200), st.sampled_from([b"\xff", b"\xef\xbb\xbf", b"\r", b"\0", b"'", b"[", b"\xe2\x80\xa8"])
)
def test_damage_is_refused_or_kept(original, at, junk):
    damaged = original[:at] + junk + original[at:]
    try:
        document = open_document("yaml", damaged)
    except NotEditableError:
        return
    assert document.data == damaged


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x 1\nb: *x\n", "anchor or alias is in line 1"),
        ("a: {<<: {b: 1}}\n", "a key is no text in line 1"),
        ("a: 1\na: 2\n", "a key is there twice in line 2"),
        ("a: 1\n---\nb: 2\n", "several documents"),
        ("a: !!binary aGk=\n", "a tag is in line 1"),
        ("%YAML 1.1\n---\na: 1\n", "directives"),
        ("a: 1\rb: 2\n", "line ends"),
        ("- a\n", "its value is not an object"),
        ("1: a\n", "a key is no text"),
        ("a: [\n", "not YAML at line 2"),
        ("a: " + "[" * 80 + "]" * 80 + "\n", "nested too deeply"),
        ("a: " + "x" * 1_100_000, "too big"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_with_its_reason(text, why):
    with pytest.raises(NotEditableError, match=why):
        open_document("yaml", text.encode())


def test_a_list_whose_names_are_not_its_own_is_a_list():
    document = open_document("yaml", b"users:\n- {name: a}\n- {name: a}\n")

    assert document.value == {"users": [{"name": "a"}, {"name": "a"}]}
    with pytest.raises(NotEditableError, match="users is not an object"):
        document.with_value(("users", "a", "user"), {})


def test_a_block_without_a_line_break_at_its_end_is_not_added_to():
    with pytest.raises(NotEditableError, match="would change more than its member"):
        open_document("yaml", b"G: |\n  x").with_value(("A",), "x")
