"""Patterns of paths: what matches, what a folder must be watched for, and which of several wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_broker.monitor.mark import Mark
from agent_broker.monitor.pattern import MAX_PATTERN_CHARS, State, Wanted, pattern_problem, tree_of


def wanted(pattern, role="credential", **given_):
    return Wanted(pattern, Mark(pattern, None, 1000, deny=False, role=role), **given_)


def found(root, path):
    state = root
    for part in path.split("/")[1:]:
        state = state.step(part)
    match = state.wanted_as(path.rpartition("/")[2])
    return match and match.pattern


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/h/.netrc", "/h/.netrc", True),
        ("/h/.netrc", "/h/.netrc2", False),
        ("/h/.netrc", "/h/.netrc/below", False),
        ("/h/.ssh/id_*", "/h/.ssh/id_rsa", True),
        ("/h/.ssh/id_*", "/h/.ssh/id_rsa/x", False),
        ("/h/.ssh/id_*", "/h/.ssh/known_hosts", False),
        ("/h/.ssh/*", "/h/.ssh/.hidden", True),
        ("/h/*/key", "/h/a/key", True),
        ("/h/*/key", "/h/a/b/key", False),
        ("/h/[ab]/k?y", "/h/b/key", True),
        ("/h/g/**", "/h/g/a", True),
        ("/h/g/**", "/h/g/a/b/c", True),
        ("/h/g/**", "/h/g", False),
        ("/h/g/**", "/h/gg/a", False),
        ("/h/id_*", "/h/id_\udcff\n", True),
    ],
)
def test_what_matches(pattern, path, matches):
    assert found(tree_of([wanted(pattern)]), path) == (pattern if matches else None)


def test_a_decoy_wins_then_what_is_ignored_then_the_plainest():
    first, second = wanted("/h/*"), wanted("/h/a")
    ignored, decoy = Wanted("/h/a*", None), wanted("/h/a", "decoy")

    assert found(tree_of([first, second]), "/h/a") == "/h/a"
    assert found(tree_of([first, second, ignored]), "/h/a") is None
    assert found(tree_of([first, second, ignored]), "/h/b") == "/h/*"
    assert tree_of([first, second, ignored, decoy]).step("h").step("a").wanted_as("a") is decoy


def test_names_that_do_not_count():
    root = tree_of([wanted("/h/id_*", but_not=("*.pub",))])

    assert found(root, "/h/id_rsa") == "/h/id_*"
    assert found(root, "/h/id_rsa.pub") is None


def test_what_a_folder_is_watched_for():
    root = tree_of([wanted("/home/ann/.aws/credentials"), wanted("/home/ann/.ssh/id_*"), wanted("/home/ann/g/**")])
    home = root.step("home").step("ann")

    assert (root.holds_files, root.must_list, home.holds_files) == (False, False, False)
    assert set(home.names) == {".aws", ".ssh", "g"}
    assert (home.step(".aws").holds_files, home.step(".aws").must_list) == (True, False)
    assert (home.step(".ssh").holds_files, home.step(".ssh").must_list) == (True, True)
    assert home.step("g").step("deep").must_list
    assert not home.step("other")
    assert not State()
    assert not home.step(".ssh").step("id_x").leads_on


@pytest.mark.parametrize(
    "pattern",
    ["~/.netrc", "~/*.kdbx", "/etc/app/*.key", "~/g/**", "~/a b/c"],
)
def test_patterns_that_may_be(pattern):
    assert pattern_problem(pattern) == ""


@pytest.mark.parametrize(
    "pattern",
    ["", "~", "~/", "/", "a/b", "~ann/x", "~~/x", "/a/../b", "/a/./b", "/a//b", "~/**/x", "/*/x", "/a\0b",
     "/" + "a" * MAX_PATTERN_CHARS],
)  # fmt: skip
def test_patterns_that_may_not_be(pattern):
    assert pattern_problem(pattern)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=5)


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_a_path_without_special_characters_matches_itself_alone(parts):
    path = "/" + "/".join(parts)
    if not set("*?[") & set(path):
        assert found(tree_of([wanted(path)]), path) == path
        assert found(tree_of([wanted(path)]), f"{path}x") is None
