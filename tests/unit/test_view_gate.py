"""Who opens a view is asked about twice: what counts as the same answer, and what does not."""

import os

import msgspec
import pytest

from agent_broker.identity.evidence import Principal, Unchanged, Unknown
from agent_broker.ids import AgentName, ExecId, ProcId, Sha256, Uid
from agent_broker.view.gate import Opener
from tests.fakes.issuer import ProcMonitor

SEEN = ProcMonitor().evidence(os.getpid())
STEP = SEEN.steps[0]
PRINCIPAL = Principal(AgentName("codex"), Uid(1), ProcId(1), ExecId(1), Sha256("0" * 64), is_caller=True, depth=0)


class Answers:
    """A caller of whom the monitor says these, one after the other; keeps what was known at each question."""

    def __init__(self, *verdicts):
        self.verdicts = list(verdicts)
        self.known = []

    async def attest(self, known=None):
        self.known.append(known)
        return self.verdicts.pop(0)


async def second_look(verdict):
    """What an opener says when it was SEEN, and then the monitor says this."""
    opener = Opener(Answers(SEEN, verdict), None)
    assert await opener.attest() == SEEN
    return await opener.attest(SEEN.freshness)


@pytest.mark.parametrize(
    "verdict",
    [
        Unchanged(SEEN.freshness),
        SEEN,
        msgspec.structs.replace(SEEN, steps=(msgspec.structs.replace(STEP, exited=not STEP.exited),)),
    ],
)
async def test_evidence_that_is_made_anew_and_says_the_same_is_no_change(verdict):
    assert await second_look(verdict) == Unchanged(SEEN.freshness)


@pytest.mark.parametrize(
    "verdict",
    [
        Unknown("gone"),
        msgspec.structs.replace(SEEN, taints=("somebody took hold of it",)),
        msgspec.structs.replace(SEEN, principal=PRINCIPAL),
        msgspec.structs.replace(SEEN, steps=(STEP, STEP)),
        msgspec.structs.replace(SEEN, freshness=msgspec.structs.replace(SEEN.freshness, exec_id=ExecId(1))),
    ],
)
async def test_anything_else_is_a_change(verdict):
    assert await second_look(verdict) == verdict


async def test_what_was_seen_a_moment_ago_is_the_first_answer_and_the_monitor_gives_the_second():
    asked = Answers(Unknown("gone"))
    opener = Opener(asked, SEEN, SEEN)

    assert await opener.attest() == SEEN
    assert await opener.attest(SEEN.freshness) == Unknown("gone")
    assert asked.known == [SEEN.freshness]


async def test_what_was_seen_earlier_is_given_again_only_if_the_monitor_says_that_it_holds():
    assert await Opener(Answers(Unchanged(SEEN.freshness)), SEEN).attest() == SEEN
    other = msgspec.structs.replace(SEEN.freshness, taints=4)
    assert isinstance(await Opener(Answers(Unchanged(other)), SEEN).attest(), Unknown)
