"""Policy: no is the answer unless a rule says yes, and what limits a rule, or is about others, never widens anything.

Rules only allow; there is no rule that denies. What denies is a limit: hours, a rate, fewer modes, a narrower pattern.
"""

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent_broker.policy.decide import Question, decide
from agent_broker.policy.document import load_policy, parse_policy
from agent_broker.policy.rule import MODES, CredentialPattern, Hours, Policy, Rule


def mostly(usual, *others):
    """So that a question is often about a rule."""
    return st.sampled_from([usual] * 4 + [*others])


agents, owners = mostly("claude", "codex"), mostly(1000, 1001)
minutes = st.integers(0, 24 * 60 - 1) | st.sampled_from([0, 600, 720])
uses = st.integers(0, 3)
hours = st.builds(Hours, minutes, minutes).filter(lambda each: each.start != each.end)
patterns = st.builds(
    lambda *parts: CredentialPattern("/".join(parts)),
    mostly("*", "claude", "c*", "codex", "?????"),
    mostly("*", "1000", "1001", "100?"),
    mostly("*", "api-key", "oauth", "*key", "original/*", "*/?"),
)
rules = st.builds(
    Rule,
    where=st.sampled_from(["a.toml:1", "b.toml:7", "c.toml:3"]),
    agent=agents,
    owner_uid=owners,
    credential=patterns,
    modes=mostly(frozenset({"inject"}), frozenset({"release"}), frozenset(MODES)),
    rate_per_min=st.none() | st.integers(1, 3),
    hours=st.none() | hours | st.sampled_from([Hours(600, 720), Hours(720, 600)]),
)
policies = st.lists(rules, max_size=5).map(tuple)
questions = st.builds(
    lambda agent, owner, of_agent, of_owner, name, mode, minute: Question(
        agent, owner, f"{of_agent}/{of_owner}/{name}", mode, minute
    ),
    agents, owners, agents, mostly("1000", "1001", "*", ""), mostly("api-key", "oauth", "original/1"),
    mostly("inject", "release", "sign", ""), minutes,
)  # fmt: skip


def allowed(chosen, question, recent_uses):
    return decide(Policy(tuple(chosen)), question, recent_uses).allowed


@st.composite
def limited(draw, rule):
    """The rule with one limit more: nothing that it refuses is allowed then."""
    match draw(st.sampled_from(["hours", "rate", "modes", "pattern"])):
        case "hours":
            inside = draw(hours)
            assume(
                rule.hours is None or all(rule.hours.contain(each) for each in range(24 * 60) if inside.contain(each))
            )
            return msgspec.structs.replace(rule, hours=inside)
        case "rate":
            return msgspec.structs.replace(rule, rate_per_min=draw(st.integers(1, rule.rate_per_min or 3)))
        case "modes":
            return msgspec.structs.replace(rule, modes=frozenset(draw(st.sets(st.sampled_from(sorted(rule.modes))))))
        case _:
            parts = [draw(st.sampled_from([part, part.replace("*", "x").replace("?", "y")]))
                     for part in rule.credential.text.split("/")]  # fmt: skip
            return msgspec.structs.replace(rule, credential=CredentialPattern("/".join(parts)))


@given(questions, uses)
def test_an_empty_policy_denies(question, recent_uses):
    assert not allowed((), question, recent_uses)


@given(policies, questions, uses, st.data())
def test_a_limit_never_widens(chosen, question, recent_uses, data):
    assume(chosen)
    at = data.draw(st.integers(0, len(chosen) - 1))
    tighter = [*chosen[:at], data.draw(limited(chosen[at])), *chosen[at + 1 :]]
    assert allowed(chosen, question, recent_uses) or not allowed(tighter, question, recent_uses)


@given(policies, questions, uses, st.data())
def test_a_rule_less_never_widens(chosen, question, recent_uses, data):
    fewer = [each for each in chosen if data.draw(st.booleans())]
    assert allowed(chosen, question, recent_uses) or not allowed(fewer, question, recent_uses)


@settings(max_examples=300)
@given(policies, rules, questions, uses, st.integers(0, 5))
def test_a_rule_about_others_changes_nothing(chosen, other, question, recent_uses, at):
    assume(
        other.agent != question.agent
        or other.owner_uid != question.owner_uid
        or question.mode not in other.modes
        or not other.credential.matches(question.credential)
    )
    with_other = Policy((*chosen[:at], other, *chosen[at:]))
    assert decide(with_other, question, recent_uses) == decide(Policy(chosen), question, recent_uses)


@settings(max_examples=300)
@given(policies, questions, uses, st.randoms(use_true_random=False))
def test_the_order_of_rules_never_changes_the_answer(chosen, question, recent_uses, random):
    shuffled = list(chosen)
    random.shuffle(shuffled)
    assert allowed(shuffled, question, recent_uses) == allowed(chosen, question, recent_uses)


@given(policies, questions, uses, uses)
def test_more_uses_never_widen(chosen, question, first, second):
    few, many = sorted((first, second))
    assert allowed(chosen, question, few) or not allowed(chosen, question, many)


@settings(max_examples=1000)
@given(policies, questions, uses)
def test_yes_is_one_rule_that_says_yes_to_everything(chosen, question, recent_uses):
    decision = decide(Policy(chosen), question, recent_uses)
    reasons = [
        each
        for each in chosen
        if each.agent == question.agent
        and each.owner_uid == question.owner_uid
        and question.mode in each.modes
        and each.credential.matches(question.credential)
        and (each.hours is None or _since(each.hours, question.minute_of_day) < _since(each.hours, each.hours.end))
        and (each.rate_per_min is None or recent_uses < each.rate_per_min)
    ]
    owner = question.credential.split("/")[1]
    assert decision.allowed == bool(reasons and owner == str(question.owner_uid))
    assert not decision.allowed or decision.rule in {each.where for each in reasons}


@given(st.lists(policies, min_size=2, max_size=3), questions, uses)
def test_the_order_of_documents_never_changes_the_answer(tmp_path_factory, documents, question, recent_uses):
    folders = [tmp_path_factory.mktemp("policy") for _ in range(2)]
    for folder, order in zip(folders, (documents, documents[::-1]), strict=True):
        for number, document in enumerate(order):
            (folder / f"{number}0-rules.toml").write_text("".join(map(_as_toml, document)))
    forward, backward = (load_policy(folder) for folder in folders)
    assert sorted(map(_said, forward.rules)) == sorted(_said(each) for document in documents for each in document)
    assert allowed(forward.rules, question, recent_uses) == allowed(backward.rules, question, recent_uses)


@given(rules)
def test_a_rule_survives_its_document(rule):
    (read,) = parse_policy(_as_toml(rule).encode(), "x.toml").rules
    assert _said(read) == _said(rule)


def _since(span, minute):
    """Minutes since the span began, over midnight if need be."""
    return (minute - span.start) % (24 * 60)


def _said(rule):
    return str(msgspec.structs.replace(rule, where="", modes=tuple(sorted(rule.modes))))


def _as_toml(rule):
    lines = [
        "[[rule]]",
        f'agent = "{rule.agent}"',
        f"owner = {rule.owner_uid}",
        f'credential = "{rule.credential.text}"',
        f"modes = {sorted(rule.modes)}",
    ]
    if rule.rate_per_min is not None:
        lines.append(f"rate_per_min = {rule.rate_per_min}")
    if rule.hours is not None:
        lines.append(f'hours = "{_clock(rule.hours.start)}-{_clock(rule.hours.end)}"')
    return "\n".join(lines) + "\n"


def _clock(minute):
    return f"{minute // 60:02}:{minute % 60:02}"
