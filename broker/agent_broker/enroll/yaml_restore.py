"""Where a YAML file is changed, and to what, when a member goes back to its place. Pure; yaml_edit checks it."""

import yaml

from agent_broker.enroll.pointer import NotEditableError, Pointer
from agent_broker.enroll.yaml_document import Spot, YamlFile, index, is_flow, spots
from agent_broker.enroll.yaml_splice import LEVEL, Splice, key_text


def put_back(file: YamlFile, was: YamlFile, spot: Spot, path: Pointer) -> Splice:
    """Return how a member is written as it was, behind the nearest earlier neighbour that is still there.

    Args:
        file: as it is now.
        was: as it was.
        spot: the member there.
        path: the member's.

    Raises:
        NotEditableError: what is around it is written in another way by now.
    """
    parent, earlier = file.container(path[:-1]), was.container(path[:-1])
    if earlier is None or (parent is None and (len(path) > 1 or is_flow(earlier))):
        raise NotEditableError("what held it is gone")
    if parent is None:
        return _into_nothing(file, was, spot)
    now, after = file.find(path), _neighbour(earlier, parent, path[-1])
    if is_flow(earlier) != is_flow(parent) and parent.value:
        raise NotEditableError("it is written in another way by now")
    if is_flow(earlier):
        text = was.text[spot.start : was.end_of(spot.node)]
        return _flow_again(file, parent, text, after) if now is None else (now.start, file.end_of(now.node), text)
    if now is not None:
        return file.line_start(now.start), file.line_end(file.end_of(now.node)), _lines_of(was, spot)
    if is_flow(parent):
        return _instead_of_braces(file, parent, _lines_of(was, spot), path)
    return _beside(file, was, path, after)


def _into_nothing(file: YamlFile, was: YamlFile, spot: Spot) -> Splice:
    """Put lines back into a file that means nothing any more: as many lines are before them as there were."""
    lines, is_last = _lines_of(was, spot), was.end_of(spot.node) == len(was.text)
    number, newline = was.text.count("\n", 0, was.line_start(spot.start)), was.newline
    at = _line(file, number)
    if at == len(file.text) and file.text and not file.text.endswith("\n"):
        return at, at, newline + lines
    return at, at, lines if is_last else f"{lines}{newline}"


def _instead_of_braces(file: YamlFile, parent: yaml.Node, lines: str, path: Pointer) -> Splice:
    """Put whole lines in the place of ``{}``."""
    holder = file.find(path[:-1]) if len(path) > 1 else None
    at, end = index(parent), file.end_of(parent)
    start = file.line_start(at)
    if parent.value or (holder is not None and holder.key is None):
        raise NotEditableError("it is not written as a block any more")
    if not file.text[start:at].strip():
        return start, end, lines
    return start + len(file.text[start:at].rstrip()), end, file.newline + lines


def _flow_again(file: YamlFile, parent: yaml.Node, text: str, after: str | None) -> Splice:
    """Put a member's own text between braces."""
    members = dict(spots(parent))
    if not members:
        at = index(parent) + 1
        return at, at, text
    if after is None:
        at = next(iter(members.values())).start
        return at, at, f"{text}, "
    at = file.end_of(members[after].node)
    return at, at, f", {text}"


def _beside(file: YamlFile, was: YamlFile, path: Pointer, after: str | None) -> Splice:
    """Put a member's lines where they were among the others: no comment may change sides.

    Args:
        file: as it is now, with a block to put it into.
        was: as it was.
        path: the member.
        after: the nearest earlier neighbour that is still there; None: none is.
    """
    spot, parent, earlier = was.find(path), file.container(path[:-1]), was.container(path[:-1])
    if spot is None or parent is None or earlier is None:
        raise NotEditableError("what held it is gone")
    dashes = isinstance(parent, yaml.SequenceNode)
    column = _column(was, spot) - (LEVEL if spot.key is None else 0)
    target = int(parent.start_mark.column)
    lines = _shifted(_lines_of(was, spot), target - column)
    order, now = list(spots(earlier)), dict(spots(parent))
    place = next(i for i, (name, _) in enumerate(order) if name == path[-1])
    following = order[place + 1][0] if place + 1 < len(order) else ""
    start, stop = was.line_start(spot.start), was.line_end(was.end_of(spot.node))
    before = was.line_end(was.end_of(order[place - 1][1].node)) if place else -1
    if after is not None and (not was.text[before:start].strip() or following not in now):
        at = file.line_end(file.end_of(now[after].node))
        return _behind_blanks(file, at, lines, was.text.count("\n", max(before, 0), start) - 1)
    top = _line(file, was.text.count("\n", 0, start))
    if place == 0 and len(path) == 1 and top <= file.line_start(next(iter(now.values())).start):
        return top, top, lines + file.newline
    if following in now and not was.text[stop : was.line_start(order[place + 1][1].start)].strip():
        return _before(file, now[following], lines, target, dashes=dashes)
    holder = file.find(path[:-1]) if len(path) > 1 else None
    if after is None and holder is not None and holder.key is not None:
        at = index(holder.key) + len(key_text(file, holder))
        return file.line_end(at), file.line_end(at), file.newline + lines
    if after is not None:
        at = file.line_end(file.end_of(now[after].node))
        return at, at, file.newline + lines
    return _before(file, next(iter(now.values())), lines, target, dashes=dashes)


def _behind_blanks(file: YamlFile, at: int, lines: str, blanks: int) -> Splice:
    """Put lines behind a line and as many of the blank ones that follow it."""
    for _ in range(blanks):
        below = file.text.find("\n", at) + 1
        if not below or file.text[below : file.line_end(below)].strip() or below == len(file.text):
            break
        at = file.line_end(below)
    return at, at, file.newline + lines


def _before(file: YamlFile, neighbour: Spot, lines: str, column: int, *, dashes: bool) -> Splice:
    start = file.line_start(neighbour.start)
    if dashes or not file.text[start : neighbour.start].strip():
        return start, start, lines + file.newline
    return neighbour.start, neighbour.start, lines.lstrip(" ") + file.newline + " " * column


def _lines_of(was: YamlFile, spot: Spot) -> str:
    """Return the whole lines that a member is written on."""
    start, column = was.line_start(spot.start), _column(was, spot)
    before = was.text[start : start + column]
    own = spot.key is None or not before.strip()  # the first of an item: the dash is not its own
    return (before if own else " " * column) + was.text[start + column : was.line_end(was.end_of(spot.node))]


def _column(file: YamlFile, spot: Spot) -> int:
    return spot.start - file.line_start(spot.start)


def _shifted(lines: str, by: int) -> str:
    """Return lines with another indent; all of a block moves together, so it means the same."""
    if by >= 0:
        return "\n".join(" " * by + line if line.strip() else line for line in lines.split("\n"))
    if any(line[:-by].strip() for line in lines.split("\n")):
        raise NotEditableError("it can't be moved to the left")
    return "\n".join(line[-by:] for line in lines.split("\n"))


def _neighbour(was: yaml.Node, now: yaml.Node, key: str) -> str | None:
    """Return the nearest earlier neighbour of a member that is still there; None: it was the first."""
    keys = [name for name, _ in spots(was)]
    still_there = {name for name, _ in spots(now)}
    return next((name for name in reversed(keys[: keys.index(key)]) if name in still_there), None)


def _line(file: YamlFile, number: int) -> int:
    """Return where a line begins, counted from 0; the end, if there are fewer."""
    at = 0
    for _ in range(number):
        at = file.text.find("\n", at) + 1 or len(file.text)
    return at
