"""Every error of this product: four families by who has to act, one exit.

Naming rule: an error is named after what is wrong, not after who noticed. Foreign exceptions (OSError,
sqlite3.Error, grpc.RpcError ...) are wrapped where they first meet our code with ``raise ... from``.
No message ever holds a secret, a phantom or a decoy's value: text that came from a file or a socket is
described (path, position, length), not quoted.

Exit codes are part of the interface (README, "Exit codes").
"""

from typing import ClassVar


class AgentBrokerError(Exception):
    """Base of all families.

    Attributes:
        message: one sentence for a person: what is wrong.
        next_step: what to do about it, usually a command; empty if nothing can be done.
        exit_code: of the process, if this error ends it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def explain(self) -> str:
        """Return the text that a person sees: the sentence, and what to do next."""
        return f"{self.message}\n  {self.next_step}" if self.next_step else self.message


class MisuseError(AgentBrokerError):
    """The caller asked for something malformed: arguments, configuration, a file of a wrong format."""

    exit_code = 2


class RefusedError(AgentBrokerError):
    """A rule said no, or could not say yes. Unknown is no.

    Attributes:
        rule: the short stable name of the rule that failed (DESIGN section 4, "The release rule").
        detail: the cause in full, for the audit log only; the caller sees ``message``.
    """

    exit_code = 3

    def __init__(self, rule: str, message: str, *, detail: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.rule = rule
        self.detail = detail or message


class UnavailableError(AgentBrokerError):
    """Something that is needed does not answer: a daemon, the kernel's BPF, the disk, a provider."""

    exit_code = 4


class IntegrityError(AgentBrokerError):
    """Stored data is not what was stored: a sealed record, the audit chain, a journal, a home mid-way."""

    exit_code = 5
