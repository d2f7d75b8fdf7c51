"""A story for the terminal: sentences, the tree in box characters, the timeline; folded to the width, never cut."""

from collections.abc import Iterator
from textwrap import wrap
from typing import Final

from agent_broker.cli.story import Moment, Node, Story
from agent_broker.cli.terminal import labelled

_DEEPEST: Final = 8  # levels that are indented; deeper ones stand below each other
_RESET: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_DIM: Final = "\x1b[2m"
_COLOURS: Final = {"critical": "\x1b[1;31m", "warning": "\x1b[1;33m", "info": "\x1b[1;36m"}
_HASH: Final = 16  # digits in the tree
_WHEN: Final = 10  # columns of the timeline's time


def story_text(story: Story, columns: int, *, colour: bool) -> str:
    """Return the whole story; colours change nothing else."""
    paint = _Paint(colour=colour)
    lines = [f"{paint(_COLOURS.get(story.severity, ''), story.severity.upper())}  {paint(_BOLD, story.title)}"]
    lines += [paint(_DIM, f"{story.when}  {story.id}"), ""]
    lines += wrap(" ".join(story.sentences), columns, break_on_hyphens=False)
    if story.next_step:
        lines += ["", paint(_BOLD, "What to do"), *_folded(story.next_step, columns, "  ", "  ")]
    lines += ["", paint(_BOLD, "Lineage"), *_tree(story, columns, paint)]
    lines += ["", paint(_BOLD, "Timeline"), *_timeline(story.timeline, columns, paint)]
    if story.changes:
        lines += ["", paint(_BOLD, "What changed")]
        lines += [line for each in story.changes for line in _folded(each, columns, "  ", "    ")]
    lines += ["", paint(_BOLD, "Facts")]
    lines += [line for label, text in story.facts for line in labelled(label, text, columns, label_columns=13)]
    lines += ["", paint(_BOLD, "Maps to")]
    lines += [line for each in story.frameworks for line in _framework(*each, columns)]
    return "\n".join(lines) + "\n"


class _Paint:
    """Puts text into a colour, or leaves it."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self._colour and style and text else text


def _tree(story: Story, columns: int, paint: _Paint) -> Iterator[str]:
    if not story.tree:
        yield "  unknown"
    last = len(story.tree) - 1
    for depth, node in enumerate(story.tree):
        before = "  " + "   " * min(max(depth - 1, 0), _DEEPEST)
        head = before if depth == 0 else f"{before}└─ "
        inner = "  " if depth == 0 else before + "   "
        rest = inner + ("   " if depth == last or (depth > 0 and depth > _DEEPEST) else "│  ")
        first = f"{node.how} {node.name}" if node.how.startswith("then") else node.name
        style = _COLOURS.get(story.severity, "") if node.is_offender else _BOLD
        yield f"{head}{paint(style, first)}"
        for line in _details(node):
            yield from (paint(_DIM, each) for each in _folded(line, columns, rest, rest))
        for remark in node.remarks:
            yield from _folded(f"! {remark}", columns, rest, f"{rest}  ")


def _details(node: Node) -> Iterator[str]:
    if node.command != node.name:
        yield node.command
    if node.program != node.name:
        yield node.program
    yield ", ".join(each for each in (f"pid {node.pid}", f"user {node.user}", _started(node)) if each)
    if node.sha256:
        yield f"sha256 {node.sha256[:_HASH]}…{' (whole below)' if node.is_offender else ''}"


def _started(node: Node) -> str:
    return f"started {node.started}" if node.started else ""


def _timeline(moments: tuple[Moment, ...], columns: int, paint: _Paint) -> Iterator[str]:
    width = max(_WHEN, *(len(each.when) + 2 for each in moments))
    for index, each in enumerate(moments):
        mark = {"event": "●", "response": "■", "person": "◆"}.get(each.tone, "○")
        bar = "│" if index < len(moments) - 1 else " "
        head = f"  {each.when:<{width}}{mark} "
        inner = f"  {'':<{width}}{bar} "
        relative = f" ({each.relative})" if each.relative else ""
        lines = _folded(f"{each.title}{relative}", columns, head, inner)
        yield lines[0].replace(each.title, paint(_BOLD, each.title), 1) if each.tone == "event" else lines[0]
        yield from lines[1:]
        if each.text:
            yield from (paint(_DIM, line) for line in _folded(each.text, columns, inner, inner))


def _framework(title: str, named: tuple[tuple[str, str], ...], columns: int) -> Iterator[str]:
    yield f"  {title}"
    width = max(len(identifier) for identifier, _ in named) + 2
    for identifier, name in named:
        yield from _folded(name, columns, f"    {identifier:<{width}}", " " * (width + 4))


def _folded(text: str, columns: int, first: str, rest: str) -> list[str]:
    width = max(columns, len(rest) + 20)
    return wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False) or [first.rstrip()]
