"""One TOML file into one struct: every complaint names the file and the line, and never quotes a value.

``tomllib`` decides what the file says and ``msgspec`` whether it is allowed; the grammar of tree-sitter is asked
only afterwards, for the line of a key that was refused, so it can neither accept nor change anything.
"""

import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from agent_broker.errors import MisuseError

T = TypeVar("T", bound=msgspec.Struct)
KeyPath = tuple[str | int, ...]
"""Where a value sits: keys, and positions (from 0) in arrays."""

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*?)`(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_INVALID = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|(\[\.\.\.\])")
_TYPE_NAMES = {
    "str": "a string",
    "int": "a whole number",
    "bool": "true or false",
    "float": "a number",
    "object": "a table",
    "array": "an array",
}


class TomlDocument:
    """A parsed TOML file that knows the line of each of its keys."""

    def __init__(self, data: bytes, name: str) -> None:
        """Parse.

        Args:
            data: the file's bytes.
            name: how messages call the file, usually its path.

        Raises:
            MisuseError: not TOML in UTF-8, with the line.
        """
        self.name = name
        self._data = data
        try:
            self.tables: dict[str, Any] = tomllib.loads(data.decode())
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise MisuseError(f"{name}:{line}: this line is not UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise MisuseError(_syntax_complaint(name, data, str(error))) from error

    def decode(self, shape: type[T]) -> T:
        """Return the document as a struct; unknown keys are refused if the struct forbids them.

        Raises:
            MisuseError: a key that is unknown, or a value of a wrong type or out of range, with its line.
        """
        try:
            return msgspec.convert(self.tables, type=shape)
        except msgspec.ValidationError as error:
            raise self._refusal(shape, str(error)) from error

    def misuse(self, path: KeyPath, sentence: str) -> MisuseError:
        """Return the error that says ``sentence`` about the value at ``path``."""
        return MisuseError(f"{self.name}:{self.line_of(path)}: {sentence}")

    def line_of(self, path: KeyPath) -> int:
        """Return the line (from 1) of a key, or of the nearest enclosing one that is written out; 1 if none is."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return 1

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        import tree_sitter  # noqa: PLC0415 - 20 ms that only a faulty file costs
        import tree_sitter_toml  # noqa: PLC0415 - see above

        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
        lines: dict[KeyPath, int] = {}
        for path, line in _Walk().document(parser.parse(self._data).root_node):
            lines.setdefault(path, line)
        return lines

    def _refusal(self, shape: type, complaint: str) -> MisuseError:
        if unknown := _UNKNOWN.fullmatch(complaint):
            parent = _key_path(unknown["path"] or "")
            known = _known_keys(_node_at(inspect.type_info(shape), parent))
            near = get_close_matches(unknown["key"], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}" if known else ""
            where = f" in [{_dotted(parent)}]" if parent else ""
            return self.misuse((*parent, unknown["key"]), f"unknown key {_shown(unknown['key'])}{where}{hint}")
        invalid = _INVALID.fullmatch(complaint)
        path = _key_path((invalid["path"] or "") if invalid else "")
        what = _described(invalid["what"] if invalid else complaint, _node_at(inspect.type_info(shape), path))
        return self.misuse(path, f"{_dotted(path)}: {what}" if path else what)


class _Walk:
    """Yields (path, line) of each key, table and array element of a syntax tree, in the order of the file."""

    def __init__(self) -> None:
        self._elements: dict[KeyPath, int] = {}
        """How many [[tables]] an array of tables has so far."""

    def document(self, root: Any) -> Iterator[tuple[KeyPath, int]]:
        for node in root.named_children:
            if node.type == "pair":
                yield from self._pair(node, ())
            elif node.type in {"table", "table_array_element"}:
                yield from self._table(node)

    def _table(self, node: Any) -> Iterator[tuple[KeyPath, int]]:
        key, *pairs = (child for child in node.named_children if child.type != "comment")
        path = self._resolved(_parts(key))
        if node.type == "table_array_element":
            index = self._elements.get(path, -1) + 1
            self._elements[path] = index
            yield path, _line(node)
            path = (*path, index)
        yield path, _line(node)
        for pair in pairs:
            yield from self._pair(pair, path)

    def _resolved(self, parts: tuple[str, ...]) -> KeyPath:
        """A header below an array of tables means the array's last table."""
        path: KeyPath = ()
        for part in parts[:-1]:
            path = (*path, part)
            if path in self._elements:
                path = (*path, self._elements[path])
        return (*path, *parts[-1:])

    def _pair(self, node: Any, above: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        if node.type != "pair":
            return
        parts = _parts(node.named_children[0])
        for length in range(1, len(parts) + 1):
            yield (*above, *parts[:length]), _line(node)
        yield from self._value(node.named_children[-1], (*above, *parts))

    def _value(self, node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        if node.type == "inline_table":
            for pair in node.named_children:
                yield from self._pair(pair, path)
        elif node.type == "array":
            elements = (child for child in node.named_children if child.type != "comment")
            for index, element in enumerate(elements):
                yield (*path, index), _line(element)
                yield from self._value(element, (*path, index))


def _line(node: Any) -> int:
    return int(node.start_point[0]) + 1


def _parts(key: Any) -> tuple[str, ...]:
    """The keys of a dotted key, unquoted by the parser whose word counts."""
    parts: list[str] = []
    level: Any = tomllib.loads(f"{key.text.decode()} = 0")
    while isinstance(level, dict):
        ((part, level),) = level.items()
        parts.append(part)
    return tuple(parts)


def _syntax_complaint(name: str, data: bytes, message: str) -> str:
    """The parser's complaint as ``file:line: what``; it names positions and at most one character."""
    found = re.fullmatch(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", message, re.DOTALL)
    if not found:
        return f"{name}: not TOML"
    line = int(found["line"]) if found["line"] else max(1, len(data.splitlines()))
    return f"{name}:{line}: not TOML: {_shown(found['what'])}"


def _key_path(text: str) -> KeyPath:
    """The path of a msgspec message; it ends where msgspec doesn't say which key (``[...]``)."""
    path: list[str | int] = []
    for step in _STEP.finditer(text):
        if step[3]:
            break
        path.append(step[1] if step[1] is not None else int(step[2]))
    return tuple(path)


def _node_at(node: inspect.Type, path: KeyPath) -> inspect.Type | None:
    """The type that a struct wants at a path; None if the path leaves what is declared."""
    for step in path:
        node = _table_or_array(node)
        fields = {field.encode_name: field.type for field in getattr(node, "fields", ())}
        below = fields.get(str(step)) if isinstance(step, str) else getattr(node, "item_type", None)
        if below is None:
            return None
        node = below
    return _table_or_array(node)


def _table_or_array(node: inspect.Type) -> inspect.Type:
    """What an optional type is when it is there."""
    if isinstance(node, inspect.UnionType):
        return next((kind for kind in node.types if hasattr(kind, "fields") or hasattr(kind, "item_type")), node)
    return node


def _known_keys(node: inspect.Type | None) -> list[str]:
    return [field.encode_name for field in getattr(node, "fields", ())]


def _described(what: str, node: inspect.Type | None) -> str:
    """A msgspec complaint in words, without the value that it may quote."""
    if what.startswith("Invalid enum value"):
        values = getattr(node, "values", ())
        return f"must be one of: {', '.join(map(str, values))}" if values else "not one of the allowed values"
    what = re.sub(
        "`([^`]*)`", lambda types: " or ".join(_TYPE_NAMES.get(each, each) for each in types[1].split(" | ")), what
    )
    return what[:1].lower() + what[1:]


def _dotted(path: KeyPath) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" if text else _shown(step)
    return text


def _shown(text: str) -> str:
    """Key names go to terminals: nothing that a terminal would obey."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
