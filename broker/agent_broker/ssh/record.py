"""A key's record in the vault without its secret: what enrolment writes and the agent reads. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from agent_broker.errors import IntegrityError, MisuseError
from agent_broker.ssh.binding import Limits
from agent_broker.ssh.keys import blob_of_line, public_line

KIND: Final = "ssh-key"
"""Of the vault's record."""
AGENT: Final = "ssh"
"""The name that an enrolment of SSH has: keys are ``ssh/1000/id_ed25519``."""

_PUBLIC: Final = "public_key"
_LIMITS: Final = "limits"


class KeyFacts(Struct, frozen=True):
    """What is known of a key without its private half."""

    blob: bytes
    comment: str
    limits: Limits

    def attributes(self) -> dict[str, str]:
        """Return them as a record's attributes."""
        return {_PUBLIC: public_line(self.blob, self.comment), _LIMITS: msgspec.json.encode(self.limits).decode()}


def facts_of(attributes: Mapping[str, str], name: str) -> KeyFacts:
    """Return what a record's attributes say; ``name`` is how messages call it.

    Raises:
        IntegrityError: they are not what ``KeyFacts.attributes`` makes.
    """
    try:
        blob, comment = blob_of_line(attributes.get(_PUBLIC, ""))
        return KeyFacts(blob, comment, msgspec.json.decode(attributes.get(_LIMITS, ""), type=Limits))
    except (MisuseError, msgspec.DecodeError) as error:
        raise IntegrityError(f"{name} is not a key as it was enrolled", next_step="enroll ssh again") from error
