"""The words of a netrc file, as ftp(1), curl and Python's ``netrc`` agree on them. Pure.

A file is ``machine NAME`` or ``default``, each followed by pairs of ``login``, ``password`` or ``account`` and a word,
anywhere on the lines; a word may stand in double quotes. ``macdef`` reaches to the next empty line.
"""

import re
from dataclasses import dataclass

_BEFORE_KEY = re.compile(r"(?:\s+|#[^\n]*(?:\n|\Z)|macdef\s.*?(?:\n[ \t]*\n|\Z))*", re.DOTALL)
_BEFORE_VALUE = re.compile(r"\s*")
"""A password may begin with #."""
_WORD = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"?|(?P<plain>\S+)', re.DOTALL)
_TAKES = frozenset({"machine", "login", "user", "account", "password", "passwd"})
_SECRETS = frozenset({"account", "password", "passwd"})


@dataclass(frozen=True)
class NetrcSecret:
    """Where a password stands, and whose it is."""

    machine: str
    """Empty: everybody's else (``default``)."""
    start: int
    """Of the value, in characters, without its quotes; ``end`` is the first behind it."""
    end: int


def netrc_secrets(text: str) -> tuple[NetrcSecret, ...]:
    """Return the passwords and accounts of a netrc file; none if it begins as no netrc does."""
    found: list[NetrcSecret] = []
    machine: str | None = None
    key = _word(text, 0, _BEFORE_KEY)
    while key is not None:
        name = text[key[0] : key[1]]
        value = _word(text, key[2], _BEFORE_VALUE) if name in _TAKES else None
        if name == "machine":
            machine = text[value[0] : value[1]] if value else ""
        elif name == "default":
            machine = ""
        elif machine is None:
            return ()
        elif name in _SECRETS and value is not None and value[0] < value[1]:
            found.append(NetrcSecret(machine, value[0], value[1]))
        key = _word(text, (value or key)[2], _BEFORE_KEY)
    return tuple(found)


def _word(text: str, place: int, before: re.Pattern[str]) -> tuple[int, int, int] | None:
    """Return where the next word begins and ends, and where to go on; None: there is none."""
    skipped = before.match(text, place)
    found = _WORD.match(text, skipped.end() if skipped else place)
    if found is None:
        return None
    return *found.span("plain" if found["quoted"] is None else "quoted"), found.end()
