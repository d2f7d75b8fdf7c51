"""Whatever is in a file: an edit changes its member and nothing else, and taken back leaves the same bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_broker.enroll.document import new_text, open_document
from agent_broker.enroll.pointer import MISSING, NotEditableError, value_at
from agent_broker.enroll.recipe import RemoveMember, SetMember
from agent_broker.enroll.reverse import reverse_edits
from agent_broker.enroll.rewrite import rewritten

NOISE = ["", "  ", "# note", "# A = 1", "\t# B=2"]
LINES = {
    "toml": [
        *NOISE,
        'A = "1"',
        "B=2 # two",
        "  C = '''x\ny'''",
        "D.x = true",
        "D.y = 1.50",
        'E = { x = 1, y = "b" } # inline',
        "E2 = {}",
        "F = [1,\n 2]",
        "G = 1979-05-27",
        "H = nan",
        "[D2]",
        "[ T . 'x' ] # table",
        "[T]",
        "[[L]]",
        "x = 'one'",
        "y = 0x10",
        'z = { x.y = 1 , "q r" = { } }',
        "A = 2",
        "broken = ",
        '"D" = 1',
    ],
    "env": [
        *NOISE,
        "A=1",
        "export B='two words' # note",
        'C="x"',
        "  D=",
        "E=$A",
        "F='a\nB=3'",
        "G=`date`",
        "H = spaced",
        "I=a#b",
        "A=again",
        "J: yaml",
        "not an assignment",
        'K="open',
    ],
    "shell": [
        *NOISE,
        "A=1",
        "export B='two words' # note",
        'export C="x"',
        "  D=",
        "export E=$A",
        "if true; then\n  F=1\nfi",
        "cat <<X\nG=1\nX",
        "H=1 true",
        "export I=1 J=2",
        "K=1; L=2",
        "alias x='A=3'",
        "B+=more",
        "f() { A=4; }",
        "M=a\\\nb",
        'N="open',
        "if",
    ],
    "fish": [
        *NOISE,
        "set -gx A 1",
        "set -gx B 'two words' # note",
        'set -Ux C "x"',
        "  set --global --export D ''",
        "set -gx E $A",
        "if true\n  set -gx F 1\nelse if false\n  set -gx G 1\nend",
        "set -gx H a b",
        "set -gx I 1; set -gx J 2",
        "set -gx A 2",
        "echo (date)",
        "end",
        'set -gx K "open',
        "set -gx L a\\\nb",
    ],
    "systemd": [
        *NOISE,
        "A=1",
        'B="two words"',
        "C='x'",
        " D=",
        "E=$A",
        "F=a b",
        "G=1 # no comment",
        "A=2",
        "export H=1",
    ],
    "ini": [
        *NOISE,
        "; note",
        "A = 1",
        "B=two words",
        "[T]",
        "[D2]",
        "x: colon",
        "y = with = equals",
        "X = same as x for some",
        "z = \n  a = 1",
        'E = "quoted"',
        "F=${HOME}",
        "G = a ; note",
        "//host/:_authToken=npm_x",
        "D =",
        "[T] junk",
        "no equals",
    ],
    "yaml": [
        *NOISE,
        "A: one",
        "B: 'two'  # note",
        'C: "x: y"',
        "D:\n  x: 1\n  # inside\n  y: {a: b}",
        "E: {x: 1, n: [a, b]}  # inline",
        "E2: {}",
        "F:\n- a\n- b: c",
        "G: |\n  x\n  y",
        "H: >-\n    x\n    y\n",
        "L:\n- name: x\n  y: 1\n- y: 2\n  name: z   # behind",
        "L2:\n  - name: x\n    D:\n        x: 1\n        z:\n",
        "T: {x: {y: 1}}",
        "z:",
        "D2: null",
        "A: 2",
        "I: &a 1",
        "J: *a",
        "K: !!str 1",
        "---",
        "N: x\n  y",
        "  A: 1",
        "'a b':\n    'c\"d': 1",
    ],
}
PATHS = {
    "toml": [
        *[(name,) for name in "ABCFGNx"],
        *[("D", "x"), ("D", "z"), ("E", "x"), ("E", "n"), ("E2", "n"), ("T", "x"), ("D2", "x"), ("L", "x")],
        *[("T", "x", "y"), ("D2", "n", "m"), ("z", "x", "y"), ("z", "q r", "n"), ("a b", 'c"d', "e")],
    ],
    "ini": [
        *[(name,) for name in ("A", "B", "N", "x", "//host/:_authToken")],
        *[("T", "x"), ("T", "n"), ("D2", "y"), ("N", "n"), ("T", "z"), ("T", "B")],
    ],
}
PATHS["yaml"] = [
    *[(name,) for name in "ABCFGHNx"],
    *[
        ("D", "x"),
        ("D", "z"),
        ("E", "x"),
        ("E", "n"),
        ("E2", "n"),
        ("T", "x"),
        ("D2", "x"),
        ("L", "x"),
        ("L", "x", "y"),
    ],
    *[("L", "z", "y"), ("L2", "x", "D", "x"), ("T", "x", "y"), ("z", "x", "y"), ("a b", 'c"d'), ("a b", "e")],
]
for kind in ("env", "shell", "fish", "systemd"):
    PATHS[kind] = [(name,) for name in "ABCDEFGHIJKLMNZ"]
CR = {"toml", "env", "ini", "yaml"}
VALUES = st.sampled_from(
    ["", "plain", "two words", "http://127.0.0.1:917/v1", "a'b", 'a"b', "a$b", "ä", "a#b", "a;b", "x\ny"]
)


@st.composite
def files(draw, kind):
    lines = draw(st.lists(st.sampled_from(LINES[kind]), max_size=8, unique=draw(st.booleans())))
    end = draw(st.sampled_from(["\n", "\r\n"])) if kind in CR else "\n"
    text = "\n".join(lines) + ("\n" if lines and draw(st.booleans()) else "")
    return text.replace("\n", end).encode()


@st.composite
def edits_of(draw, kind):
    paths = draw(st.lists(st.sampled_from(PATHS[kind]), unique=True, min_size=1, max_size=4))
    return tuple(SetMember(path, draw(VALUES)) if draw(st.booleans()) else RemoveMember(path) for path in paths)


def plain(value):
    return json.dumps(value, sort_keys=True)


def leaves(value, above=()):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*above, key))
    else:
        yield above, plain(value)


@pytest.mark.parametrize("kind", sorted(LINES))
@given(data=st.data())
def test_an_edit_changes_its_member_and_nothing_else(kind, data):
    original, (edit, *_) = data.draw(files(kind)), data.draw(edits_of(kind))
    try:
        before = open_document(kind, original)
        new, _, _ = rewritten(original, (edit,), {}, kind)
    except NotEditableError:
        return
    after = open_document(kind, new)
    now = value_at(after.value, edit.path)
    assert now == (edit.value if isinstance(edit, SetMember) else MISSING)
    kept = [leaf for leaf in leaves(before.value) if leaf[0][: len(edit.path)] != edit.path and leaf[1] != "{}"]
    assert set(kept) <= set(leaves(after.value))
    held = [line for line in original.splitlines() if line.lstrip().startswith((b"#", b";"))]
    assert [line for line in new.splitlines() if line.lstrip().startswith((b"#", b";"))] == held


@pytest.mark.parametrize("kind", sorted(LINES))
@given(data=st.data())
def test_there_and_back_to_the_byte(kind, data):
    original, edits = data.draw(files(kind) | st.none()), data.draw(edits_of(kind))
    try:
        new, records, made = rewritten(original, edits, {}, kind)
    except NotEditableError:
        return
    was = new_text(kind) if original is None else original
    result = reverse_edits(new, was, records, made, kind)
    assert (result.data, result.conflicts) == (was, ())


@pytest.mark.parametrize("kind", sorted(LINES))
@given(data=st.data())
def test_what_the_owner_adds_stays(kind, data):
    original, edits = data.draw(files(kind)), data.draw(edits_of(kind))
    try:
        new, records, made = rewritten(original, edits, {}, kind)
        changed = open_document(kind, new).with_value(("OWNERS",), "own").data
        was = open_document(kind, original).value
    except NotEditableError:
        return
    result = reverse_edits(changed, original, records, made, kind)
    assert plain(open_document(kind, result.data).value) == plain({**was, "OWNERS": "own"})
    assert result.conflicts == ()


@pytest.mark.parametrize("kind", sorted(LINES))
@given(data=st.data())
def test_damage_is_refused_or_kept(kind, data):
    """Bytes thrown into a file: it is refused with its reason, or an edit leaves them where they are."""
    original = data.draw(files(kind))
    at = data.draw(st.integers(0, len(original)))
    junk = data.draw(
        st.sampled_from(
            [b"\xff", b"\xef\xbb\xbf", b"\r", b"\0", b"'", b'"', b"\\", b"\n\n", b"[", b"\xe2\x80\xa8", b"\x85"]
        )
        | st.binary(max_size=3)
    )
    damaged = original[:at] + junk + original[at:]
    edits = data.draw(edits_of(kind))[:1]
    try:
        new, records, made = rewritten(damaged, edits, {}, kind)
    except NotEditableError:
        return
    assert reverse_edits(new, damaged, records, made, kind).data == damaged


@pytest.mark.parametrize("kind", sorted(LINES))
@given(garbage=st.binary(max_size=40))
def test_garbage_is_refused_or_kept(kind, garbage):
    try:
        document = open_document(kind, garbage)
    except NotEditableError:
        return
    assert document.data == garbage
