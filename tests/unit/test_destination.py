"""Where a tool uses a credential: one reading or none."""

import pytest

from agent_broker.errors import MisuseError
from agent_broker.policy.destination import Destination


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://github.com", "https://github.com"),
        ("https://GitHub.com:443/Alice/Site.git", "https://github.com/Alice/Site"),
        ("http://127.0.0.1:8080/a/", "http://127.0.0.1:8080/a"),
        ("https://[::1]:8443/a", "https://[::1]:8443/a"),
        ("docker://ghcr.io", "docker://ghcr.io"),
    ],
)
def test_a_destination_has_one_form(text, shown):
    assert str(Destination.parse(text)) == shown
    assert Destination.parse(shown) == Destination.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "github.com", "https://", "https:///a", "https://alice@github.com", "https://github.com:x", "https://a b",
        "https://github.com/a/../b", "https://github.com/./b", "https://github.com/a//b", "https://github.com/%2e%2e/b",
        "https://github.com/a?b", "https://github.com/a#b", "https://github.com/a\\b", "https://github.com/a\nb",
        "https://github.com:99999", "https://-", "https://github.com/" + "a" * 2048,
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_none(text):
    with pytest.raises(MisuseError) as caught:
        Destination.parse(text)
    assert text not in caught.value.message or not text


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("https://a.b", "https://a.b/x/y", True),
        ("https://a.b/x", "https://a.b/x.git", True),
        ("https://a.b/x", "https://a.b/x/y", True),
        ("https://a.b/x", "https://a.b/xy", False),
        ("https://a.b/x/y", "https://a.b/x", False),
        ("https://a.b", "http://a.b", False),
        ("https://a.b", "https://a.b:8443", False),
        ("https://a.b", "https://c.a.b", False),
        ("https://a.b/X", "https://a.b/x", False),
    ],
)
def test_it_covers_itself_and_what_is_below(wide, narrow, covers):
    assert Destination.parse(wide).covers(Destination.parse(narrow)) == covers
