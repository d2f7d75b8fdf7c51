"""A YAML file with the place of everything in it: values by pointers, places by libyaml's marks. Pure.

kubectl reads its files with a translation of libyaml, so libyaml says here what is where. A list of mappings that each
have a ``name`` of their own (kubeconfig's clusters, contexts and users) is presented as an object of these names.

Refused, because an edit could then mean something else to a tool than to us: several documents, anchors and aliases,
merge keys, tags, directives, a key twice or one that is no text, line ends that YAML 1.1 and 1.2 see differently, and
what is too big. Messages say where, and quote nothing.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import yaml

from agent_broker.enroll.pointer import NotEditableError, Pointer, Value

MAX_BYTES: Final = 1024 * 1024
_MAX_DEPTH: Final = 64
_BREAKS: Final = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
_TAG: Final = "tag:yaml.org,2002:"
_CONSTRUCTED: Final = frozenset({f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float")})
NAME: Final = "name"


@dataclass(frozen=True)
class Spot:
    """One member of a mapping, or one named item of a list."""

    key: yaml.Node | None
    """None: an item of a list."""
    node: yaml.Node
    """Of a member its value, else the item."""
    parent: yaml.Node

    @property
    def start(self) -> int:
        """Where it begins; of an item, behind the dash."""
        return index(self.node if self.key is None else self.key)


class YamlFile:
    """A parsed file. Immutable.

    Attributes:
        bom: the byte order mark, or nothing.
        text: everything behind it.
    """

    def __init__(self, data: bytes) -> None:
        """Parse a whole file.

        Raises:
            NotEditableError: see the module.
        """
        self.bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        if len(data) > MAX_BYTES:
            raise NotEditableError("it is too big to be edited")
        try:
            self.text = data[len(self.bom) :].decode()
        except UnicodeDecodeError as error:
            raise NotEditableError(f"not UTF-8 text at byte {error.start}") from None
        if _BREAKS.search(self.text):
            raise NotEditableError("it has line ends that YAML's versions see differently")
        self.root = _composed(self.text)
        self.value: dict[str, Value] = {}
        if self.root is not None:
            self.value = _mapping(self.root)

    @property
    def data(self) -> bytes:
        """The whole file."""
        return self.bom + self.text.encode()

    @cached_property
    def newline(self) -> str:
        """How its lines end."""
        return "\r\n" if "\r\n" in self.text else "\n"

    def find(self, path: Pointer) -> Spot | None:
        """Return what is at a pointer, or None.

        Raises:
            NotEditableError: something on the way is there and is no object.
        """
        parent = self.container(path[:-1])
        return None if parent is None else next((spot for name, spot in spots(parent) if name == path[-1]), None)

    def container(self, path: Pointer) -> yaml.Node | None:
        """Return the mapping, or the list of named things, at a pointer; None: something on the way is missing.

        Raises:
            NotEditableError: something on the way is there and is no object.
        """
        node: yaml.Node | None = self.root
        for depth, key in enumerate(path, 1):
            spot = None if node is None else next((spot for name, spot in spots(node) if name == key), None)
            if spot is None:
                return None
            node = spot.node
            if not isinstance(node, yaml.MappingNode) and not is_named_list(node):
                raise NotEditableError(f"{'.'.join(path[:depth])} is not an object")
        return node

    def end_of(self, node: yaml.Node) -> int:
        """Return where a node's last character is, and one more; libyaml counts what follows to a block."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            return self.end_of(last[1] if isinstance(last, tuple) else last)
        end = int(node.end_mark.index)
        if isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}:
            return index(node) + len(self.text[index(node) : end].rstrip())
        return end

    def line_start(self, at: int) -> int:
        """Return where the line of a place begins."""
        return self.text.rfind("\n", 0, at) + 1

    def line_end(self, at: int) -> int:
        """Return where the line of a place ends, without its line break."""
        found = self.text.find("\n", at)
        if found < 0:
            return len(self.text)
        return found - 1 if found > at and self.text[found - 1] == "\r" else found


def spots(node: yaml.Node) -> Iterator[tuple[str, Spot]]:
    """Yield what an object consists of, by name."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.value, Spot(key, value, node)
    elif is_named_list(node):
        for item in node.value:
            yield _name_of(item), Spot(None, item, node)


def is_named_list(node: yaml.Node | None) -> bool:
    """Say whether a node is a list that is presented as an object."""
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        return False
    names = [_name_of(item) for item in node.value]
    return all(names) and len(set(names)) == len(names)


def is_flow(node: yaml.Node) -> bool:
    """Say whether a node is written as JSON is."""
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def index(node: yaml.Node) -> int:
    """Return where a node begins, in characters."""
    return int(node.start_mark.index)


def _composed(text: str) -> yaml.MappingNode | None:
    try:
        _require_plain(text)
        root = yaml.compose(text, yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" at line {mark.line + 1} column {mark.column + 1}"
        raise NotEditableError(f"not YAML{where}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise NotEditableError("not YAML") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value and not root.style):
        return None
    if not isinstance(root, yaml.MappingNode):
        raise NotEditableError("its value is not an object")
    return root


def _require_plain(text: str) -> None:
    """Raise for what the module refuses, before anything is built of it."""
    depth = documents = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise NotEditableError(f"an anchor or alias is in line {_line_of(event)}")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise NotEditableError("it holds several documents")
            if event.version or event.tags:
                raise NotEditableError("it has directives")
        elif getattr(event, "tag", None) is not None:
            raise NotEditableError(f"a tag is in line {_line_of(event)}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise NotEditableError("nested too deeply")


def _line_of(place: yaml.Node | yaml.Event) -> int:
    return 0 if place.start_mark is None else int(place.start_mark.line) + 1


def _mapping(node: yaml.MappingNode) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
            raise NotEditableError(f"a key is no text in line {_line_of(key)}")
        if key.value in found:
            raise NotEditableError(f"a key is there twice in line {_line_of(key)}")
        found[key.value] = _value(value)
    return found


def _value(node: yaml.Node) -> Value:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode):
        if is_named_list(node):
            return {_name_of(item): _value(item) for item in node.value}
        return [_value(item) for item in node.value]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Value:
    if node.tag not in _CONSTRUCTED:
        return str(node.value)
    try:
        value: Value = yaml.constructor.SafeConstructor().construct_object(node)
    except ValueError:
        raise NotEditableError(f"a number can't be read in line {_line_of(node)}") from None
    # not-a-number is not equal to itself, so no edit could be checked
    return str(node.value) if isinstance(value, float) and value != value else value  # noqa: PLR0124


def _name_of(node: yaml.Node) -> str:
    """Return an item's name; empty: it has none."""
    if not isinstance(node, yaml.MappingNode):
        return ""
    found = (value for key, value in node.value if isinstance(key, yaml.ScalarNode) and key.value == NAME)
    first = next(found, None)
    return str(first.value) if isinstance(first, yaml.ScalarNode) and first.tag == f"{_TAG}str" else ""
