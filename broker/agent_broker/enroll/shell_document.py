"""Assignments in what sh, bash, zsh and direnv run: ``export NAME=value`` and ``NAME=value``.

A file is a program, so a line of it says nothing by itself. Two readers must agree: the grammar of bash says that the
line is a command of its own outside of every block, quote and here-document, and a narrow pattern says that its value
is a literal. Everything else that sets the same name makes it uneditable, and the refusal names the line.
"""

import re
from collections.abc import Iterator

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from agent_broker.enroll.env_document import BARE, NAME, AssignmentDocument, Assignments, refuse_mark
from agent_broker.enroll.line_layout import Layout, line_end, line_start
from agent_broker.enroll.line_place import lines_of
from agent_broker.enroll.pointer import NotEditableError, Pointer

_LANGUAGE = Language(tree_sitter_bash.language())
_LITERAL = rf"(?P<bare>{BARE}|)|'(?P<single>[^'\r\n]*)'|\"(?P<double>[^\"\\$`!\r\n]*)\""
_ASSIGNS = re.compile(
    rf"[ \t]*(?:export[ \t]+)?(?P<name>{NAME})=(?P<value>{_LITERAL})[ \t]*(?:[ \t]#[^\n]*)?\n?\Z".encode()
)
_MENTIONS = re.compile(rf"(?:^|[\s;&|(])(?:export[ \t]+)?(?P<name>{NAME})\+?=".encode())
_MAX_DEPTH = 200
"""Of nested commands that are looked into; a profile has 5."""


class ShellDocument(AssignmentDocument):
    """See enroll.document.Document."""

    @staticmethod
    def read(body: bytes) -> Layout:
        """See LineDocument."""
        refuse_mark(body, b"\r", "a CR, which a shell takes for text")
        found = Assignments(body)
        root = Parser(_LANGUAGE).parse(body).root_node
        if root.has_error:
            _refuse_all(body, found, _first_error(root))
            return found.layout()
        for node in _assignments(root):
            _note(body, root, node, found)
        return found.layout()

    def entry_text(self, key: Pointer, text: bytes) -> bytes:
        """See LineDocument."""
        return b"export " + super().entry_text(key, text)


def _note(body: bytes, root: Node, node: Node, found: Assignments) -> None:
    name = node.child_by_field_name("name")
    if name is None or name.type != "variable_name":  # an array's element
        return
    start, end = line_start(body, node.start_byte), line_end(body, node.end_byte)
    literal = _ASSIGNS.match(body[start:end])
    command = node.parent if node.parent is not None and node.parent.type == "declaration_command" else node
    if literal and command.parent == root and start + literal.start("value") == name.end_byte + 1:
        found.add(literal, start, end)
    elif command.parent != root and command.parent is not None and command.parent.type != "command":
        found.refuse(name.text.decode() if name.text else "", node.start_byte, "inside of a block")
    else:
        found.refuse(
            name.text.decode() if name.text else "", node.start_byte, "not a plain literal on a line of its own"
        )


def _assignments(node: Node, depth: int = 0) -> Iterator[Node]:
    if depth > _MAX_DEPTH:
        raise NotEditableError(f"line {node.start_point[0] + 1}: nested too deeply")
    for child in node.children:
        if child.type == "variable_assignment":
            yield child
        yield from _assignments(child, depth + 1)


def _first_error(node: Node) -> int:
    """Return the line of the first thing that is not bash."""
    while True:
        inner = next((child for child in node.children if child.has_error or child.is_missing), None)
        if inner is None or node.type == "ERROR":
            return int(node.start_point[0]) + 1
        node = inner


def _refuse_all(body: bytes, found: Assignments, error_line: int) -> None:
    at = 0
    for line in lines_of(body):
        for mention in _MENTIONS.finditer(line) if not line.lstrip().startswith(b"#") else ():
            why = f"line {error_line} is not understood, so what this line does is not sure"
            found.refuse(mention["name"].decode(), at, why)
        at += len(line)
