"""Change single members of a JSON file, and leave every other byte as it is.

Kept: order, indent, line ends (LF or CRLF), spacing, comments, byte order mark, the end of the file. A new member is
written in the style of its neighbours. Every edit is parsed again before it is returned and must mean exactly
the old value with that one change; otherwise IntegrityError, and nothing is returned.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tree_sitter import Node

from agent_broker.enroll.json_document import JsonDocument, JsonPath, JsonValue, Member, NotEditableJsonError
from agent_broker.errors import IntegrityError

FIRST: Final = ""
"""For ``after``: put the new member before all others. (An empty key can't be used as a neighbour.)"""

_DEFAULT_INDENT = b"  "
_BLANK = b" \t\r\n"

Splice = tuple[int, int, bytes]
"""Replace body[start:end] by these bytes."""


@dataclass(frozen=True)
class Style:
    """How a document is written."""

    newline: bytes
    indent: bytes
    """One level."""
    multi_line: bool


def set_value(data: bytes, path: JsonPath, value: JsonValue, *, after: str | None = None) -> bytes:
    """Return the file with the member at ``path`` set to ``value``; objects on the way are made.

    Args:
        data: the whole file.
        path: keys from the root downwards, at least one.
        value: what it shall be.
        after: the key of the member behind which a new member goes, or FIRST; None, or one that is not there: last.

    Raises:
        NotEditableJsonError: the file is not JSON, or something on the way is not an object.
    """

    def render(style: Style, indent: bytes) -> bytes:
        return _render(value, style, indent)

    return _set(data, path, value, render, after)


def set_raw(data: bytes, path: JsonPath, raw: bytes, *, after: str | None = None) -> bytes:
    """Like set_value, with the value's text given, and written exactly so.

    Raises:
        NotEditableJsonError: see set_value; also if ``raw`` is not one JSON value.
    """
    document = JsonDocument(b'{"v":' + raw + b"}")
    if document.raw(("v",)) != raw:
        raise NotEditableJsonError("not the text of one JSON value")
    value = document.value["v"]
    return _set(data, path, value, lambda _style, _indent: raw, after)


def remove_member(data: bytes, path: JsonPath) -> bytes:
    """Return the file without the member at ``path``, its comma and its line; a missing member is fine.

    Raises:
        NotEditableJsonError: the file is not JSON, or something on the way is not an object.
    """
    document = JsonDocument(data)
    parent = document.object_at(path[:-1])
    member = None if parent is None else document.member(parent, path[-1])
    if parent is None or member is None:
        return data
    expected = copy.deepcopy(document.value)
    del _container(expected, path)[path[-1]]
    return _spliced(document, _removal(document, parent, member), expected)


def _set(
    data: bytes, path: JsonPath, value: JsonValue, render: Callable[[Style, bytes], bytes], after: str | None
) -> bytes:
    document = JsonDocument(data)
    parent = document.object_at(path[:-1])
    if parent is None:
        return _set(set_value(data, path[:-1], {}), path, value, render, after)
    expected = copy.deepcopy(document.value)
    _container(expected, path)[path[-1]] = value
    style = _style(document)
    member = document.member(parent, path[-1])
    if member is not None:
        indent = _line_indent(document.body, member.start)
        start, end = member.value.start_byte, member.value.end_byte
        return _spliced(document, [(start, end, render(style, indent))], expected)
    return _spliced(document, _Insertion(document, parent, style).splices(path[-1], render, after), expected)


def _container(value: dict[str, JsonValue], path: JsonPath) -> dict[str, JsonValue]:
    for key in path[:-1]:
        inner = value[key]
        if not isinstance(inner, dict):
            raise NotEditableJsonError(f"{key} is not an object")
        value = inner
    return value


def _spliced(document: JsonDocument, splices: list[Splice], expected: dict[str, JsonValue]) -> bytes:
    body = document.body
    for start, end, text in sorted(splices, reverse=True):
        body = body[:start] + text + body[end:]
    try:
        same = JsonDocument(body).value == expected
    except NotEditableJsonError as error:
        raise IntegrityError("an edit would have broken the file") from error
    if not same:
        raise IntegrityError("an edit would have changed more than its member")
    return document.bom + body


class _Insertion:
    """Where and how one new member goes into one object."""

    def __init__(self, document: JsonDocument, parent: Node, style: Style) -> None:
        self._body = document.body
        self._parent = parent
        self._style = style
        self._members = list(document.members(parent))
        self._comments = [child for child in parent.children if child.type == "comment"]
        self._commas = [child.end_byte for child in parent.children if child.type == ","]
        self._outer = _line_indent(self._body, parent.start_byte)

    def splices(self, key: str, render: Callable[[Style, bytes], bytes], after: str | None) -> list[Splice]:
        """Return the edits that insert the member."""
        text = json.dumps(key).encode() + self._colon() + render(self._style, self._indent())
        if not self._members:
            return [self._into_empty(text)]
        if after == FIRST:
            start = self._members[0].start
            return [(start, start, text + b"," + self._gap())]
        place = next((i for i, member in enumerate(self._members) if member.key == after), len(self._members) - 1)
        if place == len(self._members) - 1:
            end = self._members[place].end
            at, gap = self._behind_comments(end)
            return [(at, at, b"," + gap + text)] if at == end else [(at, at, gap + text), (end, end, b",")]
        at, gap = self._behind_comments(self._commas[place])
        return [(at, at, gap + text + b",")]

    def _into_empty(self, text: bytes) -> Splice:
        inner_start, inner_end = self._parent.start_byte + 1, self._parent.end_byte - 1
        own_line = self._style.newline + self._indent()
        at = _comment_end(self._body, self._comments[-1]) if self._comments else inner_start
        if b"\n" in self._body[inner_start:inner_end]:
            return (at, at, own_line + text)
        if self._comments:
            return (at, at, b" " + text)
        if self._style.multi_line:
            return (inner_start, inner_end, own_line + text + self._style.newline + self._outer)
        return (inner_start, inner_end, text)

    def _indent(self) -> bytes:
        if self._members and self._on_own_lines():
            return _line_indent(self._body, self._members[0].start)
        return self._outer + self._style.indent

    def _on_own_lines(self) -> bool:
        return b"\n" in self._body[self._parent.start_byte : self._members[0].start]

    def _gap(self) -> bytes:
        """Return the space between a comma and the next member, as this object has it."""
        if self._on_own_lines():
            return self._style.newline + self._indent()
        if len(self._members) > 1:
            gap = self._body[self._commas[0] : self._members[1].start]
            return gap if not gap.strip(_BLANK) else b" "
        return b" " if self._colon().endswith(b" ") else b""

    def _behind_comments(self, at: int) -> tuple[int, bytes]:
        """Return the offset behind the comments that follow on the same line, and the space needed there."""
        gap = self._gap()
        for comment in self._comments:
            if comment.start_byte >= at and not self._body[at : comment.start_byte].strip(b" \t,"):
                at = _comment_end(self._body, comment)
                if self._body.startswith(b"//", comment.start_byte) and b"\n" not in gap:
                    gap = self._style.newline + self._indent()
        return at, gap

    def _colon(self) -> bytes:
        """Return what stands between a key and its value, as in this object's last member."""
        if not self._members:
            return b": "
        last = self._members[-1]
        key_end = last.start + len(self._key_text(last))
        between = self._body[key_end : last.value.start_byte]
        return between if between.replace(b" ", b"") == b":" else b": "

    def _key_text(self, member: Member) -> bytes:
        node = member.value.parent.child_by_field_name("key") if member.value.parent else None
        return b"" if node is None else self._body[node.start_byte : node.end_byte]


def _removal(document: JsonDocument, parent: Node, member: Member) -> list[Splice]:
    body, nodes = document.body, parent.children
    place = next(i for i, node in enumerate(nodes) if node.start_byte == member.start and node.type == "pair")
    comma_behind = next((node for node in nodes[place:] if node.type == ","), None)
    if comma_behind is not None:
        behind = nodes[nodes.index(comma_behind) + 1].start_byte
        before_end = _comment_end(body, nodes[place - 1])
        gaps = (body[before_end : member.start], body[comma_behind.end_byte : behind])
        if comma_behind == nodes[place + 1] and all(b"\n" in gap for gap in gaps):
            # On lines of its own: those go, and the next member keeps its own indentation.
            return _merged([(before_end, member.end, b""), (comma_behind.start_byte, comma_behind.end_byte, b"")])
        return _merged([(member.start, member.end, b""), (comma_behind.start_byte, behind, b"")])
    before = nodes[place - 1]
    comma_before = next((node for node in reversed(nodes[:place]) if node.type == ","), None)
    if comma_before is None:
        alone = not any(node.type == "comment" for node in nodes)
        return [(parent.start_byte + 1, parent.end_byte - 1, b"") if alone else (member.start, member.end, b"")]
    if before.type == ",":
        return [(before.start_byte, member.end, b"")]
    start = _comment_end(body, before)
    line_ends_here = body[member.end :].lstrip(b" \t\r").startswith(b"\n")
    if body.startswith(b"//", before.start_byte) and not line_ends_here:
        start = body.index(b"\n", start) + 1
    return [(comma_before.start_byte, comma_before.end_byte, b""), (start, member.end, b"")]


def _merged(splices: list[Splice]) -> list[Splice]:
    (start, end, _), (next_start, next_end, _) = splices
    return [(start, next_end, b"")] if end == next_start else splices


def _comment_end(body: bytes, comment: Node) -> int:
    """Return where a comment ends; tree-sitter counts the CR of CRLF to a line comment."""
    text = body[comment.start_byte : comment.end_byte]
    return comment.end_byte - (len(text) - len(text.rstrip(b"\r")) if text.startswith(b"//") else 0)


def _line_indent(body: bytes, at: int) -> bytes:
    line = body[body.rfind(b"\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(b" \t"))]


def _style(document: JsonDocument) -> Style:
    body, root = document.body, document.root
    end_of_first_line = body.find(b"\n")
    newline = b"\r\n" if end_of_first_line > 0 and body[end_of_first_line - 1 : end_of_first_line] == b"\r" else b"\n"
    first = next(document.members(root), None)
    indent = _line_indent(body, first.start) if first is not None else b""
    multi_line = b"\n" in body[root.start_byte : root.end_byte]
    return Style(newline, indent or _DEFAULT_INDENT, multi_line)


def _render(value: JsonValue, style: Style, indent: bytes) -> bytes:
    if not style.multi_line or not isinstance(value, dict | list):
        return json.dumps(value).encode()
    text = json.dumps(value, indent=style.indent.decode()).encode()
    return text.replace(b"\n", style.newline + indent)
