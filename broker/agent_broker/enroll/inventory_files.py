"""Files whose members and lines are looked at for credentials: agents' settings, profiles, variables of projects."""

from collections.abc import Iterator

from agent_broker.enroll.inventory_content import Item, items_of_document, items_of_lines
from agent_broker.enroll.inventory_protocol import Source, State
from agent_broker.enroll.inventory_values import PHANTOM, agents_of
from agent_broker.enroll.inventory_walk import UNREADABLE, Looked, Walk


def settings(walk: Walk, path: str, form: str, agents: tuple[str, ...], source: Source = "settings") -> None:
    """Tell what the members of a file hold.

    Args:
        walk: the home.
        path: of the file.
        form: ``json``, ``toml``, or ``lines``.
        agents: whose it is, if the member does not say.
        source: what it is told as.
    """
    with walk.look(path) as looked:
        if looked is None or not walk.first_visit(path) or (data := _content(walk, looked, source)) is None:
            return
        if form == "lines":
            items: Iterator[Item] | None = items_of_lines(data, walk.order.limits.line_bytes, walk.order.phantom_prefix)
        else:
            items = items_of_document(data, form, walk.order.phantom_prefix)
        if items is None:  # not what its name says: well-known secrets in it count all the same
            walk.missed[UNREADABLE] += 1
            items = items_of_lines(data, walk.order.limits.line_bytes, walk.order.phantom_prefix)
        for item in items:
            own = agents_of(item.variable, item.kind) or agents
            _tell(walk, looked, item, source, own)


def lines(walk: Walk, path: str, source: Source) -> None:
    """Tell what the assignments in a file hold."""
    with walk.look(path) as looked:
        if looked is None or not walk.first_visit(path) or (data := _content(walk, looked, source)) is None:
            return
        order = walk.order
        for item in items_of_lines(data, order.limits.line_bytes, order.phantom_prefix, order.variables):
            _tell(walk, looked, item, source, agents_of(item.variable, item.kind))


def _content(walk: Walk, looked: Looked, source: Source) -> bytes | None:
    """Return what is in a file; None, told as unopened where that is worth telling: it is, or may be, a decoy."""
    if walk.is_decoy(looked) or (walk.order.hidden_decoys and source in {"env-file", "direnv"}):
        walk.emit(walk.sighting(looked, "variables", "unopened", source=source, opened=False))
        return None
    return walk.read(looked)


def _tell(walk: Walk, looked: Looked, item: Item, source: Source, agents: tuple[str, ...]) -> None:
    state: State = "phantom" if item.kind == PHANTOM else "plain"
    walk.emit(
        walk.sighting(looked, item.kind, state, name=item.name, line=item.line, agents=agents, source=source),
    )
