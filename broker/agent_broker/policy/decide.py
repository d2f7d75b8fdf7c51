"""May this agent use this credential, in this way, now? Pure: the same question has the same answer.

The law of this module: no is the answer unless one rule says yes to all of it. Rules only allow; a rule that matches
but is out of its hours or over its rate does not stop another from allowing.
"""

import datetime as dt

from msgspec import Struct

from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.policy.rule import Policy, Rule


class Question(Struct, frozen=True):
    """What is asked. Every field was attested or comes from the broker; none is the caller's word."""

    agent: AgentName
    owner_uid: Uid
    """Of the enrolment that the caller's principal belongs to."""
    credential: CredentialId
    mode: str
    """``inject`` or ``release``."""
    minute_of_day: int
    """Local time, see ``minute_of_day``."""


class Decision(Struct, frozen=True):
    """The answer."""

    allowed: bool
    rule: str
    """The rule that decided, as file and line; empty if none is about this question."""
    reason: str
    """One sentence."""


def decide(policy: Policy, question: Question, recent_uses: int) -> Decision:
    """Return the answer.

    Args:
        policy: all rules.
        question: who wants what.
        recent_uses: of this credential by this agent and owner in the last 60 s, this one not counted.
    """
    if not _is_owners(question):
        return Decision(allowed=False, rule="", reason=f"{question.credential} does not belong to {_who(question)}")
    refusal = Decision(
        allowed=False,
        rule="",
        reason=f"no policy rule lets {_who(question)} use {question.credential} in mode {question.mode}",
    )
    for rule in policy.rules:
        if not _is_about(rule, question):
            continue
        problem = _limit_reached(rule, question, recent_uses)
        if not problem:
            return Decision(allowed=True, rule=rule.where, reason=f"allowed by {rule.where}")
        refusal = Decision(allowed=False, rule=rule.where, reason=problem)
    return refusal


def minute_of_day(wall_ns: int) -> int:
    """Return the local time of day of a CLOCK_REALTIME in minutes since midnight, 0 to 1439."""
    local = dt.datetime.fromtimestamp(wall_ns // 1_000_000_000, tz=dt.UTC).astimezone()
    return local.hour * 60 + local.minute


def _is_owners(question: Question) -> bool:
    """Whatever a rule's pattern says, nobody gets another user's credential."""
    parts = question.credential.split("/")
    return len(parts) >= 3 and parts[1] == str(question.owner_uid)  # noqa: PLR2004 - AGENT/OWNER_UID/NAME


def _is_about(rule: Rule, question: Question) -> bool:
    return (
        rule.agent == question.agent
        and rule.owner_uid == question.owner_uid
        and question.mode in rule.modes
        and rule.credential.matches(question.credential)
    )


def _limit_reached(rule: Rule, question: Question, recent_uses: int) -> str:
    if rule.hours is not None and not rule.hours.contain(question.minute_of_day):
        return f"{rule.where} allows this at other hours only"
    if rule.rate_per_min is not None and recent_uses >= rule.rate_per_min:
        return f"{rule.where} allows {rule.rate_per_min} uses a minute, and there were {recent_uses}"
    return ""


def _who(question: Question) -> str:
    return f"agent {question.agent} of user {question.owner_uid}"
