"""git's protocol, as a pure function."""

import pytest

from agent_broker_shims import git
from agent_broker_shims.port import Answer, NotThisProtocolError, Question

ASKED = Question("https://a")


def test_a_server_is_asked_for():
    lines = b"capability[]=authtype\nprotocol=https\nhost=github.com\nwwwauth[]=Basic\nnew-key=1\n\nprotocol=x\n"
    assert git.question(["get"], lines, {}) == Question("https://github.com")


def test_a_repository_and_a_user_are_asked_for():
    lines = b"protocol=https\nhost=github.com:8443\npath=alice/site.git\nusername=alice\n"
    assert git.question(["get"], lines, {}) == Question("https://github.com:8443/alice/site.git", "alice")


@pytest.mark.parametrize("operation", ["store", "erase", "something-newer"])
def test_what_is_not_asked_is_taken_in_silence(operation):
    assert git.question([operation], b"protocol=https\nhost=a\npassword=p\n\n", {}) == Answer()


@pytest.mark.parametrize(
    "lines",
    [b"", b"protocol=https\n", b"host=a\n", b"protocol=https\nhost=a\nhost=b\n", b"protocol\n", b"=a\n", b"\xff=a\n",
     b"a=b\n" * 300],
)  # fmt: skip
def test_what_is_not_gits_is_none(lines):
    with pytest.raises(NotThisProtocolError):
        git.question(["get"], lines, {})


@pytest.mark.parametrize("arguments", [[], ["get", "get"]])
def test_git_says_one_word(arguments):
    with pytest.raises(NotThisProtocolError):
        git.question(arguments, b"protocol=https\nhost=a\n", {})


def test_the_answer_is_two_lines():
    assert git.answer(ASKED, "alice", b"p=1") == b"username=alice\npassword=p=1\n"


@pytest.mark.parametrize(("user", "password"), [("a\nquit=1", b"p"), ("a", b"p\nhost=evil"), ("a", b"p\0")])
def test_no_line_can_be_put_into_the_answer(user, password):
    with pytest.raises(NotThisProtocolError) as caught:
        git.answer(ASKED, user, password)
    assert "evil" not in str(caught.value)


def test_git_asks_on_where_there_is_no_credential():
    assert git.not_found(Question("https://a")) == Answer(0, b"", b"")
