"""ssh_config(5), for one setting: ``IdentityAgent`` above every ``Host`` and ``Match``, where it is for all hosts.

ssh takes the first value that it meets, so ours goes to the very start of the file, and everything else stays as it is:
order, comments, indentation. One that stands there already is replaced where it stands. What is said below a ``Host``
is never edited.
"""

import re
from typing import Final

from agent_broker.enroll.line_document import LineDocument
from agent_broker.enroll.line_layout import Entry, Layout, Section
from agent_broker.enroll.line_place import lines_of
from agent_broker.enroll.pointer import NotEditableError, Pointer, Value

IDENTITY_AGENT: Final[Pointer] = ("IdentityAgent",)

_SETTING = re.compile(
    rb"[ \t]*identityagent(?:[ \t]*=[ \t]*|[ \t]+)"
    rb"(?P<value>\"(?P<quoted>[^\"\r\n]*)\"|(?P<bare>[^\s\"#]+))[ \t]*\r?\n?\Z",
    re.IGNORECASE,
)
_MENTIONED = re.compile(rb"[ \t]*identityagent\b", re.IGNORECASE)
_BLOCK = re.compile(rb"[ \t]*(?:host|match)(?:[ \t=]|\r?\n?\Z)", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_./@:+-]+")


class SshDocument(LineDocument):
    """See enroll.document.Document. The one pointer is IDENTITY_AGENT."""

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        entries: tuple[Entry, ...] = ()
        refused: dict[Pointer, str] = {}
        at = stop = 0
        for number, line in enumerate(lines_of(body), 1):
            if _BLOCK.match(line):
                break
            stop = at + len(line)
            found = _SETTING.match(line)
            if found and not entries and not refused:
                spot = at + found.start("value"), at + found.end("value")
                value = found["quoted"] if found["bare"] is None else found["bare"]
                entries = (Entry(IDENTITY_AGENT, at, stop, *spot, value.decode()),)
            elif _MENTIONED.match(line) and not entries:
                refused.setdefault(IDENTITY_AGENT, f"line {number}: not a plain path")
            at = stop
        return Layout(entries, (Section((), 0, 0, 0, stop),), refused)

    def value_text(self, value: Value) -> bytes:
        """See LineDocument."""
        if not isinstance(value, str) or not _PLAIN.fullmatch(value):
            raise NotEditableError("the path of an agent's socket has plain characters only")
        return value.encode()

    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """See LineDocument."""
        if key != IDENTITY_AGENT:
            raise NotEditableError("IdentityAgent is the only setting that is put into it")
        return b"IdentityAgent " + text

    def header_text(self, path: Pointer) -> bytes:
        """See LineDocument."""
        del path
        raise NotEditableError("nothing is put below a Host")
