"""What is taken for a value is what the program takes that reads such a file: bash, python-dotenv, configparser."""

import configparser
import io
import shutil
import subprocess

import dotenv
import pytest
from dotenv.parser import parse_stream
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent_broker.enroll.document import open_document
from agent_broker.enroll.pointer import NotEditableError

PIECES = st.sampled_from(
    [*"aZ'\"$`\\#;=:~%!*()&|\n\tä/-", " ", "  ", " # ", "$A", "${A}", "$(", "{a,b}", "<<X", "\r\n"]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
VALUES = TEXTS | st.sampled_from(["plain", "http://127.0.0.1:9/v1", "sk-ant-1_2.3", ""])
QUOTED = st.tuples(st.sampled_from(["", "'", '"']), VALUES).map(lambda pair: f"{pair[0]}{pair[1]}{pair[0]}")
LINES = st.builds(
    "{}{}={}{}".format,
    st.sampled_from(["", "export ", " ", "#", "\t"]),
    st.sampled_from(["A", "B", "C_1"]),
    QUOTED,
    st.sampled_from(["", " ", " # note", "#x", " x"]),
)
FILES = st.tuples(st.lists(LINES | TEXTS, min_size=1, max_size=4), st.sampled_from(["", "\n"])).map(
    lambda parts: "\n".join(parts[0]) + parts[1]
)


def values_of(kind, text):
    try:
        return open_document(kind, text.encode()).value
    except NotEditableError:
        return {}


@settings(max_examples=400)
@given(text=FILES)
def test_dotenv(text):
    """Of files that python-dotenv can parse: where a line is none, readers go on at different places."""
    assume(not any(each.error for each in parse_stream(io.StringIO(text, newline=""))))
    held = values_of("env", text)
    read = dotenv.dotenv_values(stream=io.StringIO(text, newline=""), interpolate=True)
    assert held == {name: read.get(name) for name in held}


@settings(max_examples=150)
@given(text=FILES.filter(lambda text: "|" not in text and "&" not in text))
def test_bash(text):
    """By bash itself, restricted and with an empty PATH: what such a file could start is not there."""
    held = values_of("shell", text)
    if not held:
        return
    shell = shutil.which("bash")
    script = "\n".join(
        ["shopt -u expand_aliases", text.rstrip("\n"), *(f'printf "%s\\0" "${{{name}-unset}}"' for name in held)]
    )
    run = subprocess.run(
        [shell, "--norc", "--noprofile", "-r", "-c", script], env={"PATH": ""}, capture_output=True, check=False
    )
    printed = run.stdout.decode().split("\0")[:-1]
    assert dict(zip(held, printed[-len(held) :], strict=False)) == held


@settings(max_examples=400)
@given(
    lines=st.lists(
        st.sampled_from(["[s]", "[t]", " [u]", "# note", "; note", "", "k", "  more", "K = 1", "[s] junk"])
        | st.builds(
            "{}{}{}".format, st.sampled_from(["k", "l m", "n"]), st.sampled_from(["=", " = ", ":", " "]), VALUES
        ),
        max_size=6,
    )
)
def test_configparser(lines):
    text = "[first]\n" + "\n".join(lines)
    held = values_of("ini", text)
    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(text)
    except configparser.Error:
        return
    for section, entries in held.items():
        assert entries == {key: parser[section][key] for key in entries}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("shell", "cat <<END\nexport A=1\nEND\n"),
        ("shell", "x='\nexport A=1\n'\n"),
        ("shell", "if false; then\nexport A=1\nfi\n"),
        ("shell", "false &&\nexport A=1\n"),
        ("shell", "f() {\nexport A=1\n}\n"),
        ("shell", "export A=1\nA+=2\n"),
        ("shell", "export A=1\nwhile (\n"),
        ("shell", "export A=~/x\n"),
        ("env", "X='\nA=1\n'\n"),
        ("env", 'A="1\n2"\n'),
        ("env", "A=$B\n"),
        ("fish", "if false\nset -gx A 1\nend\n"),
        ("fish", "echo '\nset -gx A 1\n'\n"),
        ("systemd", "A=$HOME\n"),
        ("ini", "A = one\n  two\n"),
        ("ini", "A = one ; two\n"),
        ("ini", "A = 'one'\n"),
        ("ini", "A = ${HOME}\n"),
        ("toml", "[[B]]\nA = 1\n"),
    ],
)
def test_what_only_looks_like_a_value_is_none(kind, text):
    document = open_document(kind, text.encode())
    assert "A" not in document.value
    if ("A",) in document.layout.refused:
        with pytest.raises(NotEditableError, match=r"^A: line [0-9]+: "):
            document.without(("A",))


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("systemd", "B=x''y'\nA='\n", 1),
        ("systemd", "B=1\\\nA=1\n", 1),
        ("env", "B=1\nC='open\nA=1\n", 2),
        ("shell", "B=1\nA=1\r\n", 2),
        ("ini", "B = 1\n[s] x\nA = 1\n", 2),
        ("toml", "B = 1\nA = \n", 2),
        ("env", "B=1\nA=\xff\n", 2),
    ],
)
def test_a_file_that_may_mean_something_else_is_refused_with_its_line(kind, text, line):
    data = text.encode("latin-1")
    with pytest.raises(NotEditableError, match=rf"line {line}\b"):
        open_document(kind, data)
