"""The credentials in one file's content: which member or variable, which line, which kind. Pure; never a value."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from agent_broker.enroll.inventory_values import PHANTOM, kind_of_value, shape_of
from agent_broker.enroll.json_document import JsonDocument
from agent_broker.enroll.pointer import NotEditableError
from agent_broker.monitor.settings_text import shown_name

_MAX_LEAVES = 20_000
_MAX_DEPTH = 24
_MAX_LINES = 50_000
_MAX_ASSIGNMENTS = 64  # of one line
_ASSIGNMENT = re.compile(
    r"(?a)(?<![\w$./-])(?P<name>[A-Za-z_]\w{0,127})=(?P<value>\"[^\"]*\"?|'[^']*'?|\$\([^)]*\)?|`[^`]*`?|[^\s;&|<>()]*)"
)
_SET = re.compile(
    r"(?a)\s*(?:set\s+(?:-\w+\s+|--\w+\s+)*|setenv\s+)(?P<name>[A-Za-z_]\w{0,127})\s+(?P<value>\"[^\"]*\"?|'[^']*'?|\S+)"
)
_PAM = re.compile(r"(?a)\s*(?P<name>[A-Za-z_]\w{0,127})\s+(?:DEFAULT|OVERRIDE)=")
"""pam_env.conf(5): NAME DEFAULT=value OVERRIDE=value."""


class Item(Struct, frozen=True):
    """One credential in a file."""

    name: str
    """As it can be shown."""
    line: int
    """0: not known."""
    kind: str
    variable: str = ""
    """The variable's name as it is; of a member, its last key."""


def items_of_lines(
    data: bytes, line_bytes: int, phantom_prefix: str, variables: frozenset[str] = frozenset()
) -> Iterator[Item]:
    """Yield what the assignments of a profile or .env file hold, and well-known secrets anywhere else in it.

    A value that a command prints, or another variable holds, is none. What a comment hides from the shell can still
    be read, so it counts if it is a well-known secret. ``variables``: names that hold a credential, besides the known.
    """
    for number, raw in enumerate(data.split(b"\n", _MAX_LINES)[:_MAX_LINES], 1):
        line = raw[:line_bytes].decode("utf-8", "surrogateescape")
        found = list(_assigned(line, number, phantom_prefix, variables))
        yield from found
        if not found and (kind := shape_of(line)):
            yield Item("", number, kind)


def _assigned(line: str, number: int, phantom_prefix: str, variables: frozenset[str]) -> Iterator[Item]:
    if line.lstrip().startswith("#"):
        return
    by_pam = _PAM.match(line)
    for _, found in zip(range(_MAX_ASSIGNMENTS), (*_SET.finditer(line), *_ASSIGNMENT.finditer(line)), strict=False):
        value = found["value"]
        quote = value[:1] if value[:1] in {'"', "'"} else ""
        text = value[1:].removesuffix(quote) if quote else value
        if quote != "'" and ("$" in text or "`" in text) and not shape_of(text):
            continue
        name = by_pam["name"] if by_pam else found["name"]
        if kind := kind_of_value(name, text, phantom_prefix, variables):
            yield Item(name, number, kind, name)


def items_of_document(data: bytes, form: str, phantom_prefix: str) -> Iterator[Item] | None:
    """Return what the members of a JSON or TOML file hold; None: it can't be understood."""
    value = _parsed(data, form)
    return None if value is None else _of_members(value, data, form, phantom_prefix)


def _parsed(data: bytes, form: str) -> Any:
    try:
        if form == "toml":
            return tomllib.loads(data.decode())
        return JsonDocument(data).value
    except (NotEditableError, ValueError, RecursionError):
        return None


def _of_members(value: Any, data: bytes, form: str, phantom_prefix: str) -> Iterator[Item]:
    for _, (path, leaf) in zip(range(_MAX_LEAVES), _leaves(value, (), ""), strict=False):
        key = next((part for part in reversed(path) if not part.startswith("[")), "")
        kind = kind_of_value(key, leaf, phantom_prefix)
        if kind:
            shown = "".join(part if part.startswith("[") else f".{shown_name(part)}" for part in path)
            yield Item(shown.removeprefix("."), _line_of(data, leaf, form), kind, key)


def _leaves(value: Any, path: tuple[str, ...], key: str) -> Iterator[tuple[tuple[str, ...], str]]:
    if len(path) > _MAX_DEPTH:
        return
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(below, (*path, name), name)
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from _leaves(below, (*path, f"[{place}]"), key)


def _line_of(data: bytes, leaf: str, form: str) -> int:
    """Return the line of a value that is written once and plainly; 0 otherwise."""
    written = (json.dumps(leaf) if form == "json" else f'"{leaf}"').encode("utf-8", "surrogatepass")
    place = data.find(written)
    return data.count(b"\n", 0, place) + 1 if place >= 0 and data.find(written, place + 1) < 0 else 0


__all__ = ["PHANTOM", "Item", "items_of_document", "items_of_lines"]
