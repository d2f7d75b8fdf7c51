"""An alert told for a person: sentences, the tree of processes, the timeline; the same for the terminal and the page.

Whatever a stranger chose (names, arguments, paths) leaves here printable and bounded: no control character, no mark
that reorders text, at most MAX_CHARS of it.
"""

import shlex
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from agent_broker.audit.acks import Ack, Alert, is_settled
from agent_broker.cli.framework_names import named
from agent_broker.cli.incident_text import ACTIONS, NO_PACKAGE, TIERS, name_of
from agent_broker.cli.spans import clock, is_same_day, span
from agent_broker.cli.terminal import printable, user_name, when
from agent_broker.lineage.record import Image, Step

MAX_CHARS: Final = 400
"""Of one text that a stranger chose."""
MAX_LINES: Final = 40
"""Of changes and further paths."""
_NAMED = 3  # further paths in a sentence; all of them are among the facts
_STARTS = 5  # of programs in the timeline, the nearest to the offender
TITLES: Final = {
    "decoy-opened": "A decoy was opened",
    "decoy-replaced": "A decoy was replaced",
    "credential-opened": "A credential file was opened",
    "config-changed": "An agent's settings were changed",
    "monitor-tampered": "Somebody tampered with the monitor",
    "decoy-used": "A decoy's value was used",
    "phantom-replayed": "An agent's phantom was presented by somebody else",
    "release-refused": "A credential was refused",
    "agent-tainted": "An agent runs foreign code",
    "agent-updated": "An agent was updated",
    "agent-tampered": "Somebody took hold of an agent",
    "login-ended": "The provider has ended a login",
    "lineage-lost": "What processes did was not seen",
}
RELATIONS: Final = {"exec": "then became, in the same process", "fork": "started", "self": "started"}


class Node(Struct, frozen=True):
    """A program in the tree, from the origin to the offender."""

    name: str
    program: str
    """The executed file, and what interprets it."""
    command: str
    pid: int
    user: str
    how: str
    """How it came from the one above it; empty: it is the origin of what was recorded."""
    started: str
    """Before the incident: ``3 min before``; empty: not known."""
    sha256: str
    """Empty: not known."""
    is_offender: bool
    remarks: tuple[str, ...]
    """Why it can't be trusted, and what is not known of it."""


class Moment(Struct, frozen=True):
    """A point of the timeline."""

    when: str
    relative: str
    """To the first event: ``12 s before``, ``3 min later``; empty: the first event itself."""
    title: str
    text: str
    tone: str
    """``start``, ``event``, ``response`` or ``person``."""


class Story(Struct, frozen=True):
    """All that is told."""

    id: str
    title: str
    severity: str
    when: str
    sentences: tuple[str, ...]
    next_step: str
    tree: tuple[Node, ...]
    timeline: tuple[Moment, ...]
    facts: tuple[tuple[str, str], ...]
    changes: tuple[str, ...]
    frameworks: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    acked: str
    """Who settled it, when and why; empty: nobody, or it grew since."""


def story_of(alert: Alert) -> Story:
    """Tell an alert."""
    return Story(
        id=shown(alert.id),
        title=TITLES.get(alert.kind, shown(alert.kind.replace("-", " ").capitalize())),
        severity=shown(alert.severity),
        when=when(alert.time_ns),
        sentences=tuple(_sentences(alert)),
        next_step=_upper(shown(alert.next_step, MAX_CHARS * 2)),
        tree=tuple(_tree(alert)),
        timeline=tuple(_timeline(alert)),
        facts=tuple((label, text) for label, text in _facts(alert) if text),
        changes=_some(alert.changes),
        frameworks=named(alert.frameworks),
        acked=_ack(alert.acked) if alert.acked is not None and is_settled(alert, alert.acked) else "",
    )


def shown(text: str, limit: int = MAX_CHARS) -> str:
    """Return text as it may be shown: printable, and cut with its length said."""
    cut = printable(text[:limit])[: limit * 2]
    return cut if len(text) <= limit else f"{cut} ... ({len(text):,} characters)"


def _sentences(alert: Alert) -> Iterator[str]:
    what = shown(alert.what, MAX_CHARS * 2)
    yield what if what.endswith(".") else f"{what}."
    yield f"{_upper(ACTIONS.get(alert.action, shown(alert.action)))}."
    if alert.count > 1:
        lasted = span(max(0, alert.last_ns - alert.time_ns))
        yield f"It happened {alert.count:,} times within {lasted}, the last time at {_clock(alert.last_ns, alert)}."
    if alert.paths:
        more = "one more file" if len(alert.paths) == 1 else f"{len(alert.paths):,} more files"
        yield f"The same lineage opened {more}: {', '.join(shown(each) for each in alert.paths[:_NAMED])}."
    if len(alert.lineage) > 1:
        yield f"It was started by {', which was started by '.join(_names(alert.lineage[1:]))}."
    if alert.agent:
        yield f"The agent {shown(alert.agent)} is among them: ask what it was told to do, and by whom."
    if alert.response:
        yield f"{_upper(shown(alert.response)).rstrip('.')}."
    if alert.acked is not None:
        grew = "" if is_settled(alert, alert.acked) else " It grew in severity since, so it is open again."
        yield f"{_ack(alert.acked)}.{grew}"


def _names(steps: Iterable[Step]) -> list[str]:
    names: list[str] = []
    for step in steps:
        name = _called(step.image)
        if not names or names[-1] != name:
            names.append(name)
    return names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} others"]  # noqa: PLR2004 - a readable sentence


def _tree(alert: Alert) -> Iterator[Node]:
    last = len(alert.lineage) - 1
    for index in range(last, -1, -1):
        step = alert.lineage[index]
        image = step.image
        above = "" if index == last else RELATIONS.get(alert.lineage[index + 1].relation, "started")
        interpreted = f", run by {shown(image.interp)}" if image.interp and image.interp != image.filename else ""
        yield Node(
            name=_called(image),
            program=f"{shown(image.filename)}{interpreted}",
            command=_command(alert, index),
            pid=step.pid,
            user=user_name(image.uid),
            how=above,
            started=_before(alert, image.exec_ns),
            sha256=alert.sha256_of(index) or "",
            is_offender=index == 0,
            remarks=tuple(shown(each) for each in _remarks(step)),
        )


def _called(image: Image) -> str:
    """Return the executed file's name, and what it was told to call itself if that is another one."""
    name = name_of(image)
    itself = image.argv0.removeprefix("-").rpartition("/")[2]
    told = f" (as {itself})" if itself and itself != image.filename.rpartition("/")[2] else ""
    return shown(f"{name}{told}", 80)


def _remarks(step: Step) -> Iterator[str]:
    yield from step.image.taints
    yield from step.tampered
    if not step.image.observed:
        yield "older than the monitor: nobody saw it start"
    if step.exited:
        yield "ended meanwhile"


def _command(alert: Alert, index: int) -> str:
    image = alert.lineage[index].image
    words = (image.argv0, *image.args_head)
    if index == 0 and alert.offender is not None and alert.offender.command:
        words = alert.offender.command
    return shown(shlex.join([printable(each[: MAX_CHARS * 2]) for each in words]))


def _timeline(alert: Alert) -> Iterator[Moment]:
    for step in reversed(alert.lineage[:_STARTS]):
        ago_ns = alert.boot_ns - step.image.exec_ns
        if alert.boot_ns and step.image.exec_ns and ago_ns >= 0:
            at_ns = alert.time_ns - ago_ns
            name = f"{_called(step.image)} started"
            yield Moment(_clock(at_ns, alert), f"{span(ago_ns)} before", name, f"pid {step.pid}", "start")
    yield Moment(
        _clock(alert.time_ns, alert), "", TITLES.get(alert.kind, shown(alert.kind)), shown(alert.path), "event"
    )
    if alert.response:
        yield Moment("", "at once", "The broker's response", shown(alert.response), "response")
    if alert.count > 1:
        later = _later(alert.last_ns, alert)
        again = f"{alert.count - 1:,} times more" if alert.count > 2 else "once more"  # noqa: PLR2004 - the second
        yield Moment(_clock(alert.last_ns, alert), later, f"{again}, this is the last", "", "event")
    ack = alert.acked
    if ack is not None:
        said = shown(ack.reason) or "no reason given"
        title = f"Acknowledged by {user_name(ack.uid)}"
        yield Moment(_clock(ack.time_ns, alert), _later(ack.time_ns, alert), title, said, "person")


def _facts(alert: Alert) -> Iterator[tuple[str, str]]:
    offender = alert.offender
    yield "path", shown(alert.path)
    yield "watched as", " for ".join(each for each in (shown(alert.role), shown(alert.holds)) if each)
    for path in _some(alert.paths):
        yield "also", path
    yield "done", ACTIONS.get(alert.action, shown(alert.action))
    yield "tier", f"{alert.tier}: {TIERS[alert.tier]}" if alert.tier in TIERS else shown(alert.tier)
    if alert.lineage:
        image = alert.lineage[0].image
        yield "program", shown(image.filename)
        yield "process", f"{alert.lineage[0].pid}, user {user_name(image.uid)} (uid {image.uid})"
        yield "command", _command(alert, 0)
    yield "sha256", alert.process_sha256 or "unknown: the executable could not be read"
    if offender is not None:
        yield "package", shown(offender.package) or NO_PACKAGE
        yield "folder", shown(offender.cwd)
        yield "container", shown(offender.container)
    yield "agent", shown(alert.agent or "") or "none in this lineage"
    yield "session", shown(alert.session)
    yield "grants", shown(alert.grants)
    yield "response", shown(alert.response)
    yield "since boot", span(alert.boot_ns) if alert.boot_ns else ""
    yield "id", shown(alert.id)


def _ack(ack: Ack) -> str:
    why = f": {shown(ack.reason)}" if ack.reason else ""
    allowed = f"; {shown(ack.allowed)} was allowed" if ack.allowed else ""
    until = f" until {when(ack.expires_ns, to_the='minute')}" if ack.allowed and ack.expires_ns else ""
    return f"Acknowledged by {user_name(ack.uid)} on {when(ack.time_ns, to_the='minute')}{why}{allowed}{until}"


def _some(texts: tuple[str, ...]) -> tuple[str, ...]:
    few = tuple(shown(each) for each in texts[:MAX_LINES])
    return few if len(texts) <= MAX_LINES else (*few, f"and {len(texts) - MAX_LINES} more")


def _before(alert: Alert, exec_ns: int) -> str:
    if not alert.boot_ns or not exec_ns or exec_ns > alert.boot_ns:
        return ""
    return f"{span(alert.boot_ns - exec_ns)} before"


def _later(time_ns: int, alert: Alert) -> str:
    return f"{span(time_ns - alert.time_ns)} later"


def _clock(time_ns: int, alert: Alert) -> str:
    return clock(time_ns) if is_same_day(time_ns, alert.time_ns) else when(time_ns)[:19]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
