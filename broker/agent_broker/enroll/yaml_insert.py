"""Add entries to a YAML file without touching a byte of what is there. Pure.

The law: positions come from the parser, never from a search; the result is parsed again, and must mean exactly what
the file meant with the new entries added. What could be read in two ways, or could make a parser work without end
(aliases, several documents, a huge one), is refused. Messages quote nothing of the file.
"""

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from agent_broker.errors import MisuseError
from agent_broker.honeytoken.entry import YamlEntries

MAX_BYTES = 256 * 1024  # PyYAML reads some 100 KB a second, and it is read five times
_DASH = re.compile(r"( *)- ")
_ELSEWHERE = "name another file with PATH"

Addition = tuple[int, str]
"""Where, in characters of the old file, and what."""
Piece = tuple[int, bytes]
"""Where, in bytes of the new file, and what."""


def added(data: bytes | None, entries: YamlEntries) -> tuple[bytes, tuple[Piece, ...]]:
    """Return the file with the entries in it, and what was added; None: there is no file yet.

    Raises:
        MisuseError: it can't be done without changing what is there; says why.
    """
    if data is None or not data.strip():
        made = {**entries.head, **{key: [item] for key, item in entries.items.items()}, **entries.members}
        piece = _block(made).encode()
        return (data or b"") + piece, ((len(data or b""), piece),)
    if len(data) > MAX_BYTES:
        raise _refused("is too big to be merged into")
    try:
        text = data.decode()
        before = _meaning(text)
        new, pieces = _inserted(text, sorted(_additions(text, entries)))
        after = _meaning(new.decode())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, TypeError) as error:
        raise _refused("is not YAML that can be merged into") from error
    if after != _expected(before, entries):
        raise _refused("would mean something else with the entry in it")
    return new, pieces


def _inserted(text: str, additions: list[Addition]) -> tuple[bytes, tuple[Piece, ...]]:
    new, pieces, done = b"", [], 0
    for at, addition in additions:
        new += text[done:at].encode()
        pieces.append((len(new), addition.encode()))
        new += addition.encode()
        done = at
    return new + text[done:].encode(), tuple(pieces)


def _meaning(text: str) -> dict[str, Any]:
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
        raise _refused("uses aliases")
    value = yaml.safe_load(text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refused("is not a mapping")
    return value


def _expected(before: dict[str, Any], entries: YamlEntries) -> dict[str, Any]:
    value = copy.deepcopy(before)
    for key, item in entries.items.items():
        value[key] = [item, *value.get(key, [])]
    return {**value, **entries.members}


def _additions(text: str, entries: YamlEntries) -> list[Addition]:
    root = yaml.compose(text, yaml.SafeLoader)
    if root is None:  # nothing but comments
        made = {**entries.head, **{key: [item] for key, item in entries.items.items()}, **entries.members}
        return [_at_end(text, _block(made))]
    if not isinstance(root, yaml.MappingNode):
        raise _refused("is not a mapping")
    nodes = {key.value: value for key, value in root.value}
    additions: list[Addition] = []
    missing: dict[str, Any] = {}
    for key, item in entries.items.items():
        if key in nodes:
            additions.append(_first_item(text, key, nodes[key], item))
        else:
            missing[key] = [item]
    for key, member in entries.members.items():
        if key in nodes:
            raise _refused("holds an entry of that name")
        missing[key] = member
    if missing:
        if root.flow_style:
            raise _refused("is written as one JSON-like line")
        additions.append(_at_end(text, _block(missing)))
    return additions


def _first_item(text: str, key: str, node: yaml.Node, item: Mapping[str, Any]) -> Addition:
    """Put an item before all others of a list, in the list's own style."""
    if not isinstance(node, yaml.SequenceNode):
        raise _refused(f"holds no list under {key}")
    if any(_name_of(each) == item.get("name") for each in node.value):
        raise _refused("holds an entry of that name")
    if node.flow_style:
        return node.start_mark.index + 1, json.dumps(item) + (", " if node.value else "")
    mark = node.value[0].start_mark
    start = mark.index - mark.column
    dash = _DASH.match(text, start)
    if dash is None:
        raise _refused(f"has an unusual list under {key}")
    indent = dash[1]
    return start, "".join(f"{indent}{line}" for line in _block([dict(item)]).splitlines(keepends=True))


def _name_of(node: yaml.Node) -> object:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value.value for key, value in pairs if key.value == "name"), None)


def _at_end(text: str, piece: str) -> Addition:
    return len(text), piece if not text or text.endswith("\n") else f"\n{piece}"


def _block(value: Any) -> str:
    """Return YAML as kubectl and gh write it, so that they leave it as it is when they write the file anew."""
    plain = json.loads(json.dumps(value))
    is_hosts = isinstance(plain, dict) and all(isinstance(each, dict) for each in plain.values())
    return yaml.safe_dump(plain, default_flow_style=False, sort_keys=not is_hosts, indent=4 if is_hosts else 2)


def _refused(why: str) -> MisuseError:
    return MisuseError(f"the file {why}: a decoy can't be added without changing it", next_step=_ELSEWHERE)
