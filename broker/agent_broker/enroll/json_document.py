"""One JSON object in a file, with the byte range of everything in it.

What is accepted is strict JSON (RFC 8259) in UTF-8, plus a byte order mark and ``//`` or ``/* */`` comments, since
people put them into settings. Refused, because an edit could then mean something else to the agent than to us:
duplicate keys anywhere, NaN and Infinity, more than one value, a value that is not an object.

The values come from ``json``, the byte ranges from tree-sitter; a document that one of the two refuses is refused.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import tree_sitter_json
from tree_sitter import Language, Node, Parser

from agent_broker.enroll.pointer import MISSING, Missing, NotEditableError, Pointer, Value, value_at

__all__ = ["MISSING", "JsonDocument", "JsonPath", "JsonValue", "Member", "Missing", "NotEditableJsonError", "value_at"]

JsonValue = Value
JsonPath = Pointer

_LANGUAGE = Language(tree_sitter_json.language())
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<number>-?[0-9][0-9.eE+-]*)', re.DOTALL)
"""What has to be told apart before either parser sees it; strings match first, so nothing inside them does."""


class NotEditableJsonError(NotEditableError):
    """A file is not JSON as this module accepts it; the message says where, and quotes nothing of it."""


@dataclass(frozen=True)
class Member:
    """One ``"key": value`` of an object; offsets are bytes of the body (without the byte order mark)."""

    key: str
    start: int
    end: int
    value: Node


class JsonDocument:
    """A parsed file. Immutable: an edit is a new document.

    Attributes:
        bom: the byte order mark, or nothing.
        body: everything behind it.
        value: what the text means.
    """

    def __init__(self, data: bytes) -> None:
        """Parse a whole file.

        Raises:
            NotEditableJsonError: see the module.
        """
        self.bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        self.body = data[len(self.bom) :]
        value = _load(_TOKENS.sub(_without_comment, self.body))
        if not isinstance(value, dict):
            raise NotEditableJsonError("its value is not an object")
        self.value: dict[str, JsonValue] = value
        self._tree = Parser(_LANGUAGE).parse(_TOKENS.sub(_with_plain_number, self.body))
        if self._tree.root_node.has_error:
            raise NotEditableJsonError("not JSON with plain comments")

    @property
    def data(self) -> bytes:
        """The whole file."""
        return self.bom + self.body

    @cached_property
    def root(self) -> Node:
        """The root object."""
        return next(child for child in self._tree.root_node.children if child.type == "object")

    def members(self, node: Node) -> Iterator[Member]:
        """Yield the members of an object in their order."""
        for child in node.named_children:
            key, value = child.child_by_field_name("key"), child.child_by_field_name("value")
            if key is not None and value is not None:
                name = json.loads(self.body[key.start_byte : key.end_byte])
                yield Member(name, child.start_byte, child.end_byte, value)

    def object_at(self, path: JsonPath) -> Node | None:
        """Return the object at a path; None if some member on the way is missing.

        Raises:
            NotEditableJsonError: something on the way is there, and is not an object.
        """
        node = self.root
        for depth, key in enumerate(path, 1):
            member = self.member(node, key)
            if member is None:
                return None
            if member.value.type != "object":
                raise NotEditableJsonError(f"{'.'.join(path[:depth])} is not an object")
            node = member.value
        return node

    def member(self, node: Node, key: str) -> Member | None:
        """Return one member of an object, or None."""
        return next((member for member in self.members(node) if member.key == key), None)

    def find(self, path: JsonPath) -> Member | None:
        """Return the member at a path, or None.

        Raises:
            NotEditableJsonError: see object_at.
        """
        parent = self.object_at(path[:-1])
        return None if parent is None else self.member(parent, path[-1])

    def raw(self, path: JsonPath) -> bytes | None:
        """Return the text of the value at a path exactly as it is written, or None."""
        member = self.find(path)
        return None if member is None else self.body[member.value.start_byte : member.value.end_byte]


def _without_comment(token: re.Match[bytes]) -> bytes:
    comment = token["comment"]
    return token[0] if comment is None else re.sub(rb"[^\n]", b" ", comment)


def _with_plain_number(token: re.Match[bytes]) -> bytes:
    """Return digits of the same length for a number: the grammar does not know ``1e+16``. Only offsets are used."""
    return token[0] if token["number"] is None else b"1" * len(token[0])


def _load(body: bytes) -> JsonValue:
    """Parse strictly. ``from None`` throughout: json's errors carry the document, and it may hold secrets."""
    try:
        value: JsonValue = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object_of_unique_keys, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise NotEditableJsonError(f"not UTF-8 text at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotEditableJsonError(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise NotEditableJsonError("nested too deeply") from None
    except NotEditableJsonError:
        raise
    except ValueError:  # an integer beyond sys.int_info's limit
        raise NotEditableJsonError("a number in it is too long") from None
    return value


def _object_of_unique_keys(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise NotEditableJsonError("an object in it has the same key twice")
    return result


def _refuse_constant(_: str) -> JsonValue:
    raise NotEditableJsonError("NaN and Infinity are not JSON")
