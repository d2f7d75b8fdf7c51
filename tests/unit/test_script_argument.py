"""Which script an interpreter was started with."""

import pytest

from agent_broker.enroll.roles import INTERPRETERS, NODE_OPTIONS, interpreter_of, rule_for
from agent_broker.identity.script import started_script


def started(*argv, allowed=NODE_OPTIONS, required=(), cut=b""):
    return started_script(b"".join(each.encode() + b"\0" for each in argv) + cut, allowed, required)


def test_the_first_argument_that_is_no_option_is_the_script():
    assert started("node", "/a/b.js", "--require", "/evil").path == b"/a/b.js"
    assert started("node", "--max-old-space-size=12", "--no-warnings", "/a/b.js").path == b"/a/b.js"


@pytest.mark.parametrize(
    "options",
    [
        ("-e", "1"), ("--eval", "1"), ("-p", "1"), ("--require", "/x"), ("-r", "/x"), ("--import=/x",),
        ("--loader=/x",), ("--inspect",), ("-",), ("--",), ("--max-old-space-size=1\n-r=/x",), ("--title",),
        ("--env-file=/x",), ("--preserve-symlinks-main",), ("--run", "x"), ("--test",), ("-c",), ("--build-snapshot",),
        ("--experimental-default-config-file",), ("--openssl-config=/x",), ("--no-warnings=x", "--conditions=x"),
    ],
)  # fmt: skip
def test_an_option_that_is_not_enrolled_makes_it_nobody(options):
    assert started("node", *options, "/a/b.js").path == b""


@pytest.mark.parametrize("path", ["b.js", "./b.js", "/a/../b.js", "/a/./b.js", "//a/b.js", "/a//b.js", "/a/b.js/", ""])
def test_a_path_that_two_readers_could_understand_differently_names_no_script(path):
    assert started("node", path).path == b""


def test_without_a_script_or_with_one_that_was_cut_it_is_nobody():
    assert started("node").path == b""
    assert started("node", "--no-warnings").path == b""
    assert started_script(b"", NODE_OPTIONS).path == b""
    assert started("node", "--no-warnings", cut=b"/a/b.js").path == b""


def test_a_required_option_must_be_there():
    python = interpreter_of("python3.11")
    rule = rule_for(python, ("/usr/bin/python3",))

    def path(*argv):
        return started(*argv, allowed=rule.interpreter_options, required=rule.required_options).path

    assert path("python3", "-I", "/a/b") == b"/a/b"
    assert path("python3", "-sIE", "/a/b") == b"/a/b"
    assert path("python3", "/a/b") == b""
    assert path("python3", "-sE", "/a/b") == b""
    assert path("python3", "-I", "-c", "1", "/a/b") == b""
    assert path("python3", "-I", "-m", "x") == b""


@pytest.mark.parametrize("interpreter", INTERPRETERS, ids=lambda each: each.names)
def test_no_interpreter_may_be_given_code(interpreter):
    for option in ("-c", "-e", "-m", "-r", "-E", "-i", "-l", "-n", "--", "-", "-x1", "-ic", "-W/x", "-Mx", "-Ix", "-s"):
        given = (*(word for word in (interpreter.example,) if word), option)
        found = started("x", *given, "/a/b", allowed=interpreter.options, required=interpreter.required)
        harmless = {"python": {"-E", "-i", "-s"}, "shell": {"-e"}}.get(interpreter.runtime, set())
        assert found.path == b"" or option in harmless, option
