"""One rule of a policy, ready to be asked. Pure; documents are read by ``document``."""

import re
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from agent_broker.errors import MisuseError
from agent_broker.ids import AgentName, CredentialId, Uid
from agent_broker.policy.destination import Destination

MODES: Final = ("inject", "release", "mint", "sign", "store", "view")
DAY_MINUTES: Final = 24 * 60

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00))")
SESSIONS: Final = ("terminal", "user")

_PATTERN = re.compile(r"[A-Za-z0-9._*?-]+(/[A-Za-z0-9._*?-]+){2,5}")


class Hours(Struct, frozen=True):
    """A part of the day, in minutes since local midnight; the end is outside. It may pass midnight."""

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Return the hours that ``HH:MM-HH:MM`` names.

        Raises:
            MisuseError: another form, or an empty span; the message does not name a file.
        """
        found = _HOURS.fullmatch(text)
        if not found:
            raise MisuseError("hours are HH:MM-HH:MM, from 00:00 to 24:00")
        start_h, start_m, end_h, end_m = (int(digits) for digits in found.groups() if digits is not None)
        hours = cls(start_h * 60 + start_m, end_h * 60 + end_m)
        if hours.start == hours.end:
            raise MisuseError("hours that start and end at the same time are none; leave the key out to allow all")
        return hours

    def contain(self, minute_of_day: int) -> bool:
        """Return whether a minute (0 to 1439) is inside."""
        if self.start < self.end:
            return self.start <= minute_of_day < self.end
        return minute_of_day >= self.start or minute_of_day < self.end


class CredentialPattern(Struct, frozen=True):
    """Which credentials a rule is about: ``AGENT/OWNER_UID/NAME`` with ``*`` and ``?`` inside its parts."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "CredentialPattern":
        """Return the pattern.

        Raises:
            MisuseError: it could never match an id; the message does not name a file.
        """
        if not _PATTERN.fullmatch(text):
            raise MisuseError("a credential is AGENT/OWNER_UID/NAME; * and ? stand for characters other than /")
        return cls(text)

    def matches(self, credential: CredentialId) -> bool:
        """Return whether every part of the id matches its part of the pattern."""
        parts, patterns = credential.split("/"), self.text.split("/")
        return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


class Rule(Struct, frozen=True):
    """Allows; nothing but a rule does."""

    where: str
    """File name and line, for people."""
    agent: AgentName
    """Whose lineage it is about; empty: ``session`` says."""
    owner_uid: Uid
    credential: CredentialPattern
    modes: frozenset[str]
    rate_per_min: int | None
    """Uses in any 60 s, over all processes of the agent; None: no limit."""
    hours: Hours | None
    """Local time; None: always."""
    session: str = ""
    """``terminal`` or ``user``: the owner's own programs, no agent on their lineage. Empty: ``agent`` says."""
    to: Destination | None = None
    """Where a tool may use it; None: wherever the credential is for."""
    narrowed: str = ""
    """Of what is minted: a session policy (policy.narrowing). Empty: all that the credential allows."""


class Policy(Struct, frozen=True):
    """All rules, in the order of files and lines. None: everything is denied."""

    rules: tuple[Rule, ...]
