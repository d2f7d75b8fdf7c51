import datetime as dt
import time

import msgspec
import pytest

from agent_broker.policy.decide import Question, decide, minute_of_day
from agent_broker.policy.rule import CredentialPattern, Hours, Policy, Rule

NOON = 12 * 60

RULE = Rule(
    where="10-claude.toml:1",
    agent="claude",
    owner_uid=1000,
    credential=CredentialPattern("claude/1000/*"),
    modes=frozenset({"inject"}),
    rate_per_min=None,
    hours=None,
)
QUESTION = Question("claude", 1000, "claude/1000/api-key", "inject", NOON)


def rule(**changes):
    return msgspec.structs.replace(RULE, **changes)


def asked(**changes):
    return msgspec.structs.replace(QUESTION, **changes)


def test_an_empty_policy_denies():
    decision = decide(Policy(()), QUESTION, 0)
    assert not decision.allowed
    assert decision.rule == ""
    assert "no policy rule" in decision.reason


def test_a_rule_that_fits_allows_and_is_named():
    decision = decide(Policy((RULE,)), QUESTION, 10**6)
    assert (decision.allowed, decision.rule) == (True, "10-claude.toml:1")


@pytest.mark.parametrize(
    "question",
    [
        asked(agent="codex"),
        asked(owner_uid=1001, credential="claude/1001/api-key"),
        asked(mode="release"),
        asked(mode=""),
        asked(credential="codex/1000/api-key"),
        asked(credential="claude/1000/original/1"),
        asked(credential="claude/1000"),
        asked(credential=""),
    ],
)
def test_anything_that_does_not_fit_denies(question):
    decision = decide(Policy((RULE,)), question, 0)
    assert not decision.allowed
    assert decision.rule == ""


def test_no_pattern_gives_another_users_credential():
    generous = rule(credential=CredentialPattern("*/*/*"))
    assert decide(Policy((generous,)), QUESTION, 0).allowed
    decision = decide(Policy((generous,)), asked(credential="claude/1001/api-key"), 0)
    assert not decision.allowed
    assert "does not belong" in decision.reason


@pytest.mark.parametrize(("uses", "allowed"), [(0, True), (4, True), (5, False), (6, False)])
def test_the_rate_counts_uses_before_this_one(uses, allowed):
    decision = decide(Policy((rule(rate_per_min=5),)), QUESTION, uses)
    assert decision.allowed is allowed
    assert decision.rule == RULE.where
    assert allowed or f"5 uses a minute, and there were {uses}" in decision.reason


@pytest.mark.parametrize(
    ("hours", "minute", "allowed"),
    [
        ("08:00-18:00", 8 * 60 - 1, False),
        ("08:00-18:00", 8 * 60, True),
        ("08:00-18:00", 18 * 60 - 1, True),
        ("08:00-18:00", 18 * 60, False),
        ("22:00-06:00", 23 * 60, True),
        ("22:00-06:00", 0, True),
        ("22:00-06:00", 6 * 60, False),
        ("22:00-06:00", NOON, False),
        ("00:00-24:00", 0, True),
        ("00:00-24:00", 24 * 60 - 1, True),
    ],
)
def test_hours(hours, minute, allowed):
    decision = decide(Policy((rule(hours=Hours.parse(hours)),)), asked(minute_of_day=minute), 0)
    assert decision.allowed is allowed
    assert decision.rule == RULE.where


def test_a_rule_at_its_limit_does_not_stop_another():
    tight, wide = rule(where="a:1", rate_per_min=1), rule(where="b:1", rate_per_min=100)
    assert decide(Policy((tight, wide)), QUESTION, 50).rule == "b:1"
    assert decide(Policy((wide, tight)), QUESTION, 50).allowed
    assert not decide(Policy((tight, wide)), QUESTION, 100).allowed


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("claude/*/api-key", "claude/1000/api-key", "claude/1000/api-keys"),
        ("claude/1000/*", "claude/1000/oauth", "claude/1000/original/1"),
        ("claude/1000/*/*", "claude/1000/original/1", "claude/1000/oauth"),
        ("claude/100?/api-key", "claude/1003/api-key", "claude/10003/api-key"),
        ("claude/1000/a.b", "claude/1000/a.b", "claude/1000/axb"),
        ("*/*/*", "x/1/y", "x/1/y/z"),
    ],
)
def test_patterns(pattern, matching, other):
    assert CredentialPattern.parse(pattern).matches(matching)
    assert not CredentialPattern.parse(pattern).matches(other)


def test_the_minute_of_day_is_local(monkeypatch):
    moment = int(dt.datetime(2026, 11, 22, 23, 59, 59, tzinfo=dt.UTC).timestamp()) * 1_000_000_000
    try:
        for zone, expected in (
            ("UTC", 23 * 60 + 59),
            ("Asia/Kolkata", 5 * 60 + 29),
            ("America/New_York", 18 * 60 + 59),
        ):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert minute_of_day(moment) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_of_rules_that_narrow_the_first_counts_and_one_that_does_not_allows_all():
    narrow, other = rule(narrowed="a", where="a"), rule(narrowed="b", where="b")
    late = rule(narrowed="a", hours=Hours(0, 1))

    assert decide(Policy((narrow, other)), QUESTION, 0).narrowed == "a"
    assert decide(Policy((late, other)), QUESTION, 0).narrowed == "b"
    assert decide(Policy((narrow, RULE)), QUESTION, 0).narrowed == ""
    assert not decide(Policy((late,)), QUESTION, 0).allowed
