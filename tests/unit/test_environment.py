"""The table of variables that run foreign code in a genuine binary."""

import re

import pytest

from agent_broker.identity.environment import ALL_RUNTIMES, FAMILIES, injecting_names, judge_strings


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH", "BUN_OPTIONS", "NODE_OPTIONS", "OPENSSL_CONF"],
)
def test_what_injects_into_a_bun_agent_taints(name):
    (finding,) = injecting_names(["HOME", name, "PATH"])

    assert finding.name == name
    assert finding.why


@pytest.mark.parametrize("name", ["HOME", "PATH", "PYTHONPATH", "GEM_HOME", "MY_LD_PRELOAD", "NODE_ENV", "LANG"])
def test_what_does_not_reach_the_agent_is_left_alone(name):
    assert injecting_names([name]) == ()


def test_other_runtimes_are_judged_when_asked_for():
    assert injecting_names(["PYTHONPATH", "PERL5OPT"], runtimes=ALL_RUNTIMES)


def test_an_allowed_name_passes():
    assert injecting_names(["LD_LIBRARY_PATH"], allowed=frozenset({"LD_LIBRARY_PATH"})) == ()


def test_every_row_compiles_and_has_a_reason():
    for family in FAMILIES:
        re.compile(family.names)
        assert family.why


def test_a_taint_names_the_variable_and_never_its_value():
    (taint,) = judge_strings(b"claude\0", b"HOME=/h\0LD_PRELOAD=/tmp/secret-place.so\0")

    assert "LD_PRELOAD" in taint
    assert "secret-place" not in taint


def test_an_empty_value_taints_too():
    assert judge_strings(b"", b"BUN_OPTIONS=\0")


def test_an_entry_without_a_name_taints():
    assert judge_strings(b"", b"HOME=/h\0LD_PRELOAD\0")


def test_a_hundred_variables_make_a_short_list():
    block = b"".join(b"LD_X%d=1\0" % number for number in range(100))

    assert len(judge_strings(b"", block)) == 5
