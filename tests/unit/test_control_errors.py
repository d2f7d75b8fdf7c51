"""Errors across gRPC: the same family with the same words comes out, and what is for the audit log stays inside."""

import grpc
import pytest

from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError, RefusedError, UnavailableError
from agent_broker.transport.control_errors import MAX_TEXT_BYTES, error_of, status_of


def there_and_back(error: AgentBrokerError) -> AgentBrokerError:
    return error_of(*status_of(error))


@pytest.mark.parametrize("family", [MisuseError, UnavailableError, IntegrityError, AgentBrokerError])
def test_a_family_survives_with_its_words(family: type[AgentBrokerError]) -> None:
    back = there_and_back(family("what is wrong: ü", next_step="do → this"))
    assert (type(back), back.message, back.next_step) == (family, "what is wrong: ü", "do → this")
    assert back.exit_code == family.exit_code


def test_a_refusal_keeps_its_rule_and_leaves_its_detail_behind() -> None:
    back = there_and_back(RefusedError("policy", "not allowed", detail="rule 7 of alice's file", next_step="ask"))
    assert isinstance(back, RefusedError)
    assert (back.rule, back.message, back.next_step) == ("policy", "not allowed", "ask")
    assert "alice" not in repr(status_of(RefusedError("policy", "no", detail="rule 7 of alice's file")))
    assert back.detail == "not allowed"


def test_a_subclass_comes_back_as_its_family() -> None:
    class SpecialError(MisuseError):
        pass

    assert type(there_and_back(SpecialError("x"))) is MisuseError


def test_long_texts_are_cut_at_a_character_below_what_grpc_takes() -> None:
    back = there_and_back(MisuseError("ü" * 5000, next_step="€" * 5000))
    assert back.message == "ü" * (MAX_TEXT_BYTES // 2)
    assert back.next_step == "€" * (MAX_TEXT_BYTES // 3)


@pytest.mark.parametrize(
    ("code", "family", "words"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError, "went away"),
        (grpc.StatusCode.CANCELLED, UnavailableError, "went away"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, UnavailableError, "in time"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, UnavailableError, "busy"),
        (grpc.StatusCode.UNIMPLEMENTED, UnavailableError, "does not know this request"),
        (grpc.StatusCode.INTERNAL, AgentBrokerError, "failed inside"),
        (grpc.StatusCode.UNKNOWN, AgentBrokerError, "failed inside"),
    ],
)
def test_grpcs_own_failures_are_ours_without_their_text(
    code: grpc.StatusCode, family: type[AgentBrokerError], words: str
) -> None:
    error = error_of(code, "text that may quote anything", ())
    assert type(error) is family
    assert words in error.message
    assert error.next_step
    assert "quote" not in error.explain()


def test_a_family_that_is_not_ours_is_not_believed() -> None:
    error = error_of(grpc.StatusCode.OK, "x", (("agent-broker-family", "root"),))
    assert type(error) is AgentBrokerError
