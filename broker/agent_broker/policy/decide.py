"""May this agent use this credential, in this way, now? Pure: the same question has the same answer.

The law of this module: no is the answer unless one rule says yes to all of it. Rules only allow; a rule that matches
but is out of its hours or over its rate does not stop another from allowing.
"""

import time

from msgspec import Struct

from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.policy.destination import Destination
from agent_broker.policy.rule import Policy, Rule


class Question(Struct, frozen=True):
    """What is asked. Every field was attested or comes from the broker; none is the caller's word."""

    agent: AgentName
    """On whose lineage the caller is; empty: no agent's."""
    owner_uid: Uid
    """Of the enrolment that the caller's principal belongs to."""
    credential: CredentialId
    mode: str
    """One of policy.rule's MODES."""
    minute_of_day: int
    """Local time, see ``minute_of_day``."""
    session: str = ""
    """Without an agent: ``terminal``, or ``user`` for any other program of the owner's."""
    to: Destination | None = None
    """Where a tool uses it; None: the caller is no tool, or its credentials are for one place each."""


class Decision(Struct, frozen=True):
    """The answer."""

    allowed: bool
    rule: str
    """The rule that decided, as file and line; empty if none is about this question."""
    reason: str
    """One sentence."""
    narrowed: str = ""
    """What is taken off what is minted: see Rule. One that takes nothing off allows all, wherever it stands; of those
    that do, the first counts."""


def decide(policy: Policy, question: Question, recent_uses: int) -> Decision:
    """Return the answer.

    Args:
        policy: all rules.
        question: who wants what.
        recent_uses: of this credential by this agent and owner in the last 60 s, this one not counted.
    """
    if not _is_owners(question):
        return Decision(allowed=False, rule="", reason=f"{question.credential} does not belong to {_who(question)}")
    what = f"{question.credential}{_where(question)} in mode {question.mode}"
    refusal = Decision(allowed=False, rule="", reason=f"no policy rule lets {_who(question)} use {what}")
    narrowed: Decision | None = None
    for rule in policy.rules:
        if not _is_about(rule, question):
            continue
        problem = _limit_reached(rule, question, recent_uses)
        if not problem:
            yes = Decision(allowed=True, rule=rule.where, reason=f"allowed by {rule.where}", narrowed=rule.narrowed)
            if not rule.narrowed:
                return yes
            narrowed = narrowed or yes
            continue
        refusal = Decision(allowed=False, rule=rule.where, reason=problem)
    return narrowed or refusal


def minute_of_day(wall_ns: int) -> int:
    """Return the local time of day of a CLOCK_REALTIME in minutes since midnight, 0 to 1439."""
    local = time.localtime(wall_ns // 1_000_000_000)
    return local.tm_hour * 60 + local.tm_min


def _is_owners(question: Question) -> bool:
    """Whatever a rule's pattern says, nobody gets another user's credential."""
    parts = question.credential.split("/")
    return len(parts) >= 3 and parts[1] == str(question.owner_uid)  # noqa: PLR2004 - AGENT/OWNER_UID/NAME


def _is_about(rule: Rule, question: Question) -> bool:
    return (
        _is_subject(rule, question)
        and (rule.to is None or (question.to is not None and rule.to.covers(question.to)))
        and rule.owner_uid == question.owner_uid
        and question.mode in rule.modes
        and rule.credential.matches(question.credential)
    )


def _is_subject(rule: Rule, question: Question) -> bool:
    """An agent's lineage is never the user's own session, wherever it was started."""
    if question.agent or not question.session:
        return rule.agent == question.agent and not rule.session
    return not rule.agent and rule.session in {"user", question.session}


def _limit_reached(rule: Rule, question: Question, recent_uses: int) -> str:
    if rule.hours is not None and not rule.hours.contain(question.minute_of_day):
        return f"{rule.where} allows this at other hours only"
    if rule.rate_per_min is not None and recent_uses >= rule.rate_per_min:
        return f"{rule.where} allows {rule.rate_per_min} uses a minute, and there were {recent_uses}"
    return ""


def _who(question: Question) -> str:
    if question.agent:
        return f"agent {question.agent} of user {question.owner_uid}"
    what = "a terminal" if question.session == "terminal" else "a program, not typed into a terminal,"
    return f"{what} of user {question.owner_uid}"


def _where(question: Question) -> str:
    return "" if question.to is None else f" at {question.to}"
