"""Assignments in what fish runs: ``set -gx NAME value``.

Only lines outside of every block count, of a file whose lines each stand alone: one with a quote, a parenthesis or a
brace that is open at its end, or a backslash there, makes everything behind it uneditable.
"""

import re
from typing import Final

from agent_broker.enroll.env_document import NAME, AssignmentDocument, Assignments, refuse_mark
from agent_broker.enroll.line_layout import Layout
from agent_broker.enroll.line_place import lines_of
from agent_broker.enroll.pointer import Pointer

_BARE = r"[A-Za-z0-9_./:@+,-][A-Za-z0-9_./:@+,=-]*"
_LITERAL = rf"(?P<bare>{_BARE})|'(?P<single>[^'\\\r\n]*)'|\"(?P<double>[^\"\\$\r\n]*)\""
_FLAGS = r"-[gUx]+|--(?:global|universal|export)"
_ASSIGNS = re.compile(
    (
        rf"[ \t]*set(?:[ \t]+(?:{_FLAGS}))+[ \t]+(?P<name>{NAME})[ \t]+(?P<value>{_LITERAL})"
        r"[ \t]*(?:[ \t]#[^\n]*)?\n?\Z"
    ).encode()
)
_MENTIONS = re.compile(rf"(?:^|[\s;&|(])set[ \t]+(?:-\S+[ \t]+)*(?P<name>{NAME})(?:[ \t\n]|\Z)".encode())
_OPENS: Final = frozenset({b"if", b"for", b"while", b"function", b"begin", b"switch"})
_PASSES: Final = frozenset({b"and", b"or", b"not", b"!", b"command", b"builtin", b"time"})
_PIECE = re.compile(
    rb"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|\\[^\n]|(?P<comment>(?:^|(?<=[\s;]))#[^\n]*)|.", re.DOTALL
)


class FishDocument(AssignmentDocument):
    """See enroll.document.Document."""

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        refuse_mark(body, b"\r", "a CR, which a shell takes for text")
        found = Assignments(body)
        depth, at, lost = 0, 0, 0
        for number, line in enumerate(lines_of(body), 1):
            commands = _commands(line)
            lost = lost or (number if commands is None else 0)
            literal = _ASSIGNS.match(line)
            if literal and not lost and depth == 0:
                found.add(literal, at, at + len(line))
            elif not line.lstrip().startswith(b"#"):
                why = (
                    f"line {lost} does not stand alone"
                    if lost
                    else "inside of a block"
                    if depth
                    else "not an exported literal"
                )
                for mention in _MENTIONS.finditer(line):
                    found.refuse(mention["name"].decode(), at, why)
            depth += sum(_opened(command) for command in commands or ())
            lost = lost or (number if depth < 0 else 0)
            at += len(line)
        return found.layout()

    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """See LineDocument."""
        return b"set -gx " + key[0].encode() + b" " + (text or b"''")


def _commands(line: bytes) -> list[bytes] | None:
    """Return the commands of a line, without what is quoted; None: the line does not stand alone."""
    bare = b"".join(b"_" if len(piece[0]) > 1 else piece[0] for piece in _PIECE.finditer(line) if not piece["comment"])
    brackets = bare.count(b"(") != bare.count(b")") or bare.count(b"{") != bare.count(b"}")
    if brackets or any(mark in bare for mark in (b"'", b'"', b"\\")) or bare.rstrip().endswith((b"|", b"&&", b"||")):
        return None
    return re.split(rb"[;|&()]+", bare)


def _opened(command: bytes) -> int:
    """Return 1 for a command that begins a block, -1 for one that ends one."""
    words = command.split()
    while words and words[0] in _PASSES:
        del words[0]
    return 1 if words and words[0] in _OPENS else -1 if words[:1] == [b"end"] else 0
