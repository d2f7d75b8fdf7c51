"""Our four error families across gRPC and back: same family, same sentence, same next step.

An error of ours becomes a status code with trailing metadata; the client makes the same family of it again. A status
without our metadata comes from gRPC itself (the other side is gone, slow, or of another version). What a refusal's
``detail`` says is for the audit log and never leaves the broker; neither does the text of a foreign exception.
"""

from collections.abc import Iterable

import grpc

from agent_broker.errors import AgentBrokerError, IntegrityError, MisuseError, RefusedError, UnavailableError

FAMILY_KEY = "agent-broker-family"
NEXT_STEP_KEY = "agent-broker-next-step-bin"
RULE_KEY = "agent-broker-rule-bin"
MAX_TEXT_BYTES = 2048  # gRPC refuses more than 8 KiB of metadata by default, details included

_CODES: dict[str, tuple[type[AgentBrokerError], grpc.StatusCode]] = {
    "misuse": (MisuseError, grpc.StatusCode.INVALID_ARGUMENT),
    "refused": (RefusedError, grpc.StatusCode.PERMISSION_DENIED),
    "unavailable": (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    "integrity": (IntegrityError, grpc.StatusCode.DATA_LOSS),
    "other": (AgentBrokerError, grpc.StatusCode.INTERNAL),
}
Metadata = tuple[tuple[str, str | bytes], ...]


def status_of(error: AgentBrokerError) -> tuple[grpc.StatusCode, str, Metadata]:
    """Return (code, details, trailing metadata) that carry an error; texts are cut to MAX_TEXT_BYTES each."""
    family = next(name for name, (kind, _) in _CODES.items() if isinstance(error, kind))
    metadata: Metadata = ((FAMILY_KEY, family), (NEXT_STEP_KEY, _cut(error.next_step)))
    if isinstance(error, RefusedError):
        metadata += ((RULE_KEY, _cut(error.rule)),)
    return _CODES[family][1], _cut(error.message).decode(), metadata


def error_of(code: grpc.StatusCode, details: str, trailing: Iterable[tuple[str, str | bytes]]) -> AgentBrokerError:
    """Return the error that a failed call stands for."""
    metadata = dict(trailing)
    family = metadata.get(FAMILY_KEY)
    if not isinstance(family, str) or family not in _CODES:
        return _foreign(code)
    next_step = _text(metadata.get(NEXT_STEP_KEY, b""))
    if family == "refused":
        return RefusedError(_text(metadata.get(RULE_KEY, b"")), details, next_step=next_step)
    return _CODES[family][0](details, next_step=next_step)


def _foreign(code: grpc.StatusCode) -> AgentBrokerError:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnavailableError("the broker did not answer in time", next_step="agent-broker doctor")
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        return UnavailableError("the broker went away", next_step="agent-broker doctor")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return UnavailableError("the broker is busy, or a message is too long for it", next_step="try again")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnavailableError(
            "the broker does not know this request: it is of another version, or the socket is the read-only one",
            next_step="restart the broker after an upgrade",
        )
    return AgentBrokerError(f"the broker failed inside ({code.name})", next_step="see the broker's log")


def _cut(text: str) -> bytes:
    return text.encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore").encode()


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
