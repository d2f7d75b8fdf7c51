"""Where a YAML file is changed, and to what, when a member is set or goes. Pure: yaml_edit checks what comes of it."""

import json
from typing import Final

import yaml

from agent_broker.enroll.pointer import NotEditableError, Value
from agent_broker.enroll.yaml_document import NAME, Spot, YamlFile, index, is_flow, is_named_list, spots
from agent_broker.enroll.yaml_text import block, scalar

LEVEL: Final = 2
"""Spaces of one level, where nothing says another number."""

Splice = tuple[int, int, str]
"""Replace text[start:end] by this."""


def insertion(file: YamlFile, parent: yaml.Node, key: str, value: Value) -> Splice:
    """Put a new member, or a new named item, behind all others."""
    if is_named_list(parent):
        item = value if isinstance(value, dict) else {}
        item = item if NAME in item else {NAME: key, **item}
        if item.get(NAME) != key:
            raise NotEditableError("an item of a list has another name")
        if is_flow(parent):
            at = file.end_of(parent.value[-1])
            return at, at, f", {json.dumps(item, ensure_ascii=False)}"
        column = parent.start_mark.column
        lines = block(item, column + LEVEL, file.newline)
        return _behind(file, parent, f"{' ' * column}- {lines[column + LEVEL :]}")
    if not is_flow(parent):
        return _behind(file, parent, block({key: value}, parent.start_mark.column, file.newline))
    text = f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
    if parent.value:
        at = file.end_of(parent.value[-1][1])
        return at, at, f", {text}"
    return _into_empty(file, parent, key, value, text)


def _into_empty(file: YamlFile, parent: yaml.Node, key: str, value: Value, text: str) -> Splice:
    """Write a block in the place of ``key: {}``, if that is on a line of its own, else put it between the braces."""
    at, end = index(parent), file.end_of(parent)
    start = file.line_start(at)
    before = file.text[start:at]
    if parent is file.root and not before.strip():
        return start, end, block({key: value}, 0, file.newline)
    name, colon, gap = before.rpartition(":")
    indent = len(name) - len(name.lstrip(" -"))
    plain = (
        colon and not gap.strip() and name.strip(" -") and not set(name) & set("{[,\"'#") and end == file.line_end(end)
    )
    if not plain:
        return at + 1, at + 1, text
    return at - len(gap), end, file.newline + block({key: value}, indent + LEVEL, file.newline)


def _behind(file: YamlFile, node: yaml.Node, lines: str) -> Splice:
    at = file.line_end(file.end_of(node))
    return at, at, file.newline + lines


def replacement(file: YamlFile, spot: Spot, value: Value) -> Splice:
    """Put another value in the place of a member's."""
    start, end = index(spot.node), file.end_of(spot.node)
    inside = is_flow(spot.parent) or is_flow(spot.node)
    if inside or spot.key is None:
        if spot.key is None and not inside:
            column = spot.node.start_mark.column
            return start, end, block(value, column, file.newline)[column:]
        return start, end, json.dumps(value, ensure_ascii=False)
    if isinstance(spot.node, yaml.ScalarNode) or is_flow(spot.node):
        gap = "" if start > 0 and file.text[start - 1] in " \t" else " "
        if isinstance(value, dict | list) and value:
            return start, end, gap + json.dumps(value, ensure_ascii=False)
        return start, end, gap + scalar(value)
    column = spot.node.start_mark.column
    if isinstance(value, dict | list) and value:
        return start, end, block(value, column, file.newline)[column:]
    return index(spot.key) + len(key_text(file, spot)), end, " " + scalar(value)


def key_text(file: YamlFile, spot: Spot) -> str:
    """Return a member's key with its colon, as it is written."""
    start = spot.start
    colon = file.text.index(":", int(spot.key.end_mark.index) if spot.key is not None else start)
    return file.text[start : colon + 1]


def removal(file: YamlFile, spot: Spot, holder: Spot | None) -> Splice:
    """Take a member out; ``holder`` is the one whose value it is in, None at the root.

    Raises:
        NotEditableError: nothing would be left of a list, or it shares a line with others.
    """
    members = list(spots(spot.parent))
    place = next(i for i, (_, each) in enumerate(members) if each.start == spot.start)
    end = file.end_of(spot.node)
    if is_flow(spot.parent):
        if place + 1 < len(members):
            return spot.start, members[place + 1][1].start, ""
        return (file.end_of(members[place - 1][1].node) if place else spot.start), end, ""
    if len(members) == 1:
        return _emptied(file, spot, holder, end)
    start = file.line_start(spot.start)
    before = file.text[start : spot.start]
    dash = isinstance(spot.parent, yaml.SequenceNode)
    if before.strip() and not (dash and before.strip() == "-"):
        if place + 1 == len(members):
            raise NotEditableError("two members are on one line")
        return spot.start, members[place + 1][1].start, ""
    return _line_removal(file, spot, end)


def _line_removal(file: YamlFile, spot: Spot, end: int) -> Splice:
    start, stop = file.line_start(spot.start), file.line_end(end)
    if file.text.startswith(file.newline, stop):
        return start, stop + len(file.newline), ""
    return max(start - len(file.newline), 0), stop, ""


def first(file: YamlFile, lines: str) -> Splice:
    """Put lines into a file that means nothing yet, behind its comments."""
    at = len(file.text)
    ends = not file.text or file.text.endswith("\n")
    return at, at, lines + file.newline if ends else file.newline + lines


def _emptied(file: YamlFile, spot: Spot, holder: Spot | None, end: int) -> Splice:
    """Write an object in braces where the last member of a block goes."""
    if isinstance(spot.parent, yaml.SequenceNode):
        raise NotEditableError("it is the last item of its list")
    if holder is None:
        return _line_removal(file, spot, end)
    if holder.key is None:
        return spot.start, end, "{}"
    start = index(holder.key) + len(key_text(file, holder))
    if file.text[start : file.line_start(spot.start)].strip():  # a comment stands between
        return spot.start, end, "{}"
    return start, file.line_end(end), " {}"
