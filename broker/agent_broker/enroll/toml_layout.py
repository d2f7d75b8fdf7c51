"""Where everything in a TOML file is: tomllib says what it means, the grammar of tree-sitter where it is written.

A file that one of the two refuses is refused. Members of arrays are never addressed, nor are tables inside of them.
"""

import math
import tomllib
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from agent_broker.enroll.line_layout import Entry, Layout, Section, line_end, line_start
from agent_broker.enroll.pointer import NotEditableError, Pointer, Value

_LANGUAGE = Language(tree_sitter_toml.language())


def meaning_of(body: bytes) -> dict[str, Value]:
    """Return what a text means; a date, or a number that JSON has not, as an object that names its type.

    Raises:
        NotEditableError: not TOML; the message holds a position, and at most one character of the text.
    """
    try:
        value = tomllib.loads(body.decode())
    except tomllib.TOMLDecodeError as error:
        raise NotEditableError(f"not TOML: {error}") from None
    except RecursionError:
        raise NotEditableError("nested too deeply") from None
    except ValueError:  # a number beyond sys.int_info's limit
        raise NotEditableError("a number in it is too long") from None
    return {key: _plain(inner) for key, inner in value.items()}


def layout_of(body: bytes) -> Layout:
    """Return where everything is.

    Raises:
        NotEditableError: not TOML.
    """
    meaning = meaning_of(body)
    root = Parser(_LANGUAGE).parse(body).root_node
    if root.has_error:
        raise NotEditableError("not TOML as its grammar has it")
    return _Reader(body, meaning).layout(root)


class _Reader:
    def __init__(self, body: bytes, meaning: dict[str, Value]) -> None:
        self._body = body
        self._meaning = meaning
        self._arrays: set[Pointer] = set()

    def layout(self, root: Node) -> Layout:
        tables = [node for node in root.children if node.type in {"table", "table_array_element"}]
        starts = [line_start(self._body, node.start_byte) for node in tables]
        entries = [*self._pairs(root, (), ())]
        stop = starts[0] if starts else len(self._body)
        ends = [entry.end for entry in entries if not entry.inline]
        sections = [Section((), 0, 0, max(ends, default=0 if starts else stop), stop)]
        behinds = [*starts[1:], len(self._body)][: len(tables)]
        for node, start, behind in zip(tables, starts, behinds, strict=True):
            path = self._path_of(node)
            found = [*self._pairs(node, path or (), path)]
            entries += found
            if path is not None:
                header_end = line_end(self._body, node.named_children[0].end_byte)
                place = max([header_end, *(entry.end for entry in found if not entry.inline)])
                sections.append(Section(path, start, header_end, place, behind))
        return Layout(tuple(entries), tuple(sections))

    def _path_of(self, node: Node) -> Pointer | None:
        """Return the path of a section; None: it is, or is below, an element of an array."""
        path = _parts(node.named_children[0])
        if node.type == "table_array_element":
            self._arrays.add(path)
        return None if any(path[:depth] in self._arrays for depth in range(1, len(path) + 1)) else path

    def _pairs(self, node: Node, above: Pointer, section: Pointer | None) -> Iterator[Entry]:
        for child in node.named_children:
            if child.type == "pair":
                yield from self._pair(child, above, section, inline=node.type == "inline_table")

    def _pair(self, node: Node, above: Pointer, section: Pointer | None, *, inline: bool) -> Iterator[Entry]:
        key, value = [child for child in node.named_children if child.type != "comment"]
        path = (*above, *_parts(key))
        start, end = node.start_byte, value.end_byte
        if not inline:
            start, end = line_start(self._body, start), line_end(self._body, end)
        meaning = None if section is None else _at(self._meaning, path)
        yield Entry(path, start, end, value.start_byte, value.end_byte, meaning, section, inline)
        if value.type == "inline_table":
            yield from self._pairs(value, path, section)


def _parts(key: Node) -> Pointer:
    """Return the keys of a dotted key, unquoted by the parser whose word counts."""
    parts: list[str] = []
    level: Any = tomllib.loads(f"{(key.text or b'').decode()} = 0")
    while isinstance(level, dict):
        ((part, level),) = level.items()
        parts.append(part)
    return tuple(parts)


def _at(value: Value, path: Pointer) -> Value:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            raise NotEditableError("two readers of TOML differ about this file")
        value = value[key]
    return value


def _plain(value: Any) -> Value:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return {type(value).__name__: value.isoformat()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    plain: Value = value
    return plain
