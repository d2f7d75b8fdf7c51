"""A file of which one stretch is ours and the rest is its owner's, whatever its format: between two comment lines.

For formats in which ``#`` begins a comment on a line of its own and a stretch may stand at the end. Its one entry is
``("agent-broker",)``: the lines between the marks. Two stretches, or one without an end, are refused.
"""

import re
from typing import Final

from agent_broker.enroll.line_document import LineDocument
from agent_broker.enroll.line_layout import Entry, Layout, Section, line_number
from agent_broker.enroll.pointer import NotEditableError, Pointer, Value

OURS: Final[Pointer] = ("agent-broker",)
_BEGIN = b"# agent-broker: this and the lines up to its end are removed by unenroll"
_END = b"# agent-broker: end"
_BLOCK = re.compile(
    rb"^"
    + re.escape(_BEGIN)
    + rb"[ \t]*\r?\n(?P<value>(?:(?!# agent-broker:).*\n)*?)"
    + re.escape(_END)
    + rb"[ \t]*(?:\r?\n|\Z)",
    re.MULTILINE,
)


class BlockDocument(LineDocument):
    """See enroll.document.Document."""

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        found = tuple(_BLOCK.finditer(body))
        stray = body.count(_BEGIN) + body.count(_END) - 2 * len(found)
        if stray or len(found) > 1:
            at = body.find(_BEGIN if _BEGIN in body else _END)
            raise NotEditableError(f"line {line_number(body, at)}: agent-broker's lines are not as it wrote them")
        if not found and body.rstrip(b"\r\n").endswith(b"\\"):
            raise NotEditableError("its last line goes on behind its end")
        entries = tuple(
            Entry(OURS, each.start(), each.end(), each.start("value"), each.end("value"), each["value"].decode())
            for each in found
        )
        return Layout(entries, (Section((), 0, 0, len(body), len(body)),))

    def value_text(self, value: Value) -> bytes:
        """See LineDocument: whole lines."""
        if not isinstance(value, str) or not value.endswith("\n"):
            raise NotEditableError("whole lines are put there, and nothing else")
        return value.encode()

    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """See LineDocument."""
        if key != OURS:
            raise NotEditableError("there is one stretch of ours, and its name is agent-broker")
        return _BEGIN + b"\n" + text + _END

    def header_text(self, path: Pointer) -> bytes:
        """See LineDocument."""
        del path
        raise NotEditableError("nothing lies below the stretch")
