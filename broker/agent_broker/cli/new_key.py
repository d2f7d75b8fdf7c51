"""A key that a person enters: what it may be."""

import re
from collections.abc import Iterable
from typing import Final

from agent_broker.errors import MisuseError
from agent_broker.honeytoken.presented import digest_of
from agent_broker.identity.registry import Enrollment
from agent_broker.inject.phantom import mentions_phantom
from agent_broker.vault.secret import Secret

_PHANTOM: Final = "this is the agent's phantom, not a key"
_SHAPE: Final = re.compile(r"[\x21-\x7e]{8,8192}")
"""What a header may carry; the longest keys have some hundred characters."""


def checked_key(text: str, enrollments: Iterable[Enrollment]) -> Secret:
    """Return a key without the white space around it.

    Raises:
        MisuseError: it can't be one, or is what the agent's files hold now: a phantom or a decoy. It is not quoted.
    """
    key = text.strip()
    if mentions_phantom(key):
        raise MisuseError(_PHANTOM, next_step="take the key from the provider's page")
    if not _SHAPE.fullmatch(key):
        raise MisuseError(
            f"a key is one line of 8 to 8192 visible ASCII characters; this has {len(key)}",
            next_step="copy it again from the provider's page",
        )
    refuse_planted([key], enrollments)
    return Secret(key.encode("ascii"))


def refuse_planted(values: Iterable[str], enrollments: Iterable[Enrollment]) -> None:
    """Refuse what an enrolment left in a file: it opens nothing.

    Raises:
        MisuseError: one of the values is a phantom or a decoy. It is not quoted.
    """
    planted = {value for each in enrollments for file in each.decoys for value in file.values_sha256}
    for value in values:
        if mentions_phantom(value):
            raise MisuseError(_PHANTOM, next_step="take the key from the provider's page")
        if digest_of(value) in planted:
            raise MisuseError("this is the decoy that enrolment left, not a key", next_step="take it from the provider")
