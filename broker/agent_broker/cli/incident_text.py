"""An incident and a lineage as text for a person: plain strings, since a follower waits for them."""

import posixpath
import shlex
from collections.abc import Iterable

from agent_broker.cli.terminal import labelled, printable, user_name, when
from agent_broker.lineage.record import Image, Step
from agent_broker.monitor.frameworks import Frameworks
from agent_broker.monitor.incident import Incident, Offender

MAX_COMMAND_CHARS = 300
_RESET = "\x1b[0m"
_COLOURS = {"critical": "\x1b[1;31m", "warning": "\x1b[1;33m", "info": "\x1b[1;36m"}
TIERS = {
    "enforce": "opens and ptrace can be denied",
    "observe+": "opens can be denied while the monitor lives",
    "observe": "watched only, nothing can be denied",
    "none": "no kernel evidence, nothing is released",
}
NO_PACKAGE = "none: no distribution package owns it"
ACTIONS = {
    "served-decoy": "it was served the decoy, which opens nothing",
    "denied": "denied",
    "refused": "refused: it got nothing",
    "only-seen": "only seen, not prevented",
}


def incident_block(incident: Incident, columns: int, *, colour: bool) -> str:
    """Return an incident as a block of lines that ends with an empty one.

    Args:
        incident: what to show.
        columns: of the terminal; lines are folded to it, never cut.
        colour: whether the reader is a terminal that shows colours.
    """
    severity = incident.severity.upper()
    if colour:
        severity = f"{_COLOURS.get(incident.severity, '')}{severity}{_RESET}"
    lines = [f"{severity}  {when(incident.time_ns)}  {printable(incident.kind)}"]
    for label, text in _rows(incident):
        lines += labelled(label, text, columns)
    return "\n".join(lines) + "\n\n"


def _rows(incident: Incident) -> Iterable[tuple[str, str]]:
    yield "what", incident.what
    if incident.path:
        yield "path", incident.path
    yield "done", ACTIONS.get(incident.action, incident.action)
    yield "tier", f"{incident.tier}: {TIERS[incident.tier]}" if incident.tier in TIERS else incident.tier
    if incident.lineage:
        yield "process", process_line(incident.lineage[0].image)
        yield "command", _command(incident)
    if incident.offender is not None:
        yield "package", incident.offender.package or NO_PACKAGE
        yield from ((label, text) for label, text in _surroundings(incident.offender) if text)
    yield "sha256", incident.process_sha256 or "unknown: the executable could not be read"
    yield "lineage", lineage_line(incident.lineage) or "unknown"
    yield "agent", incident.agent or "none in this lineage"
    if incident.session:
        yield "session", incident.session
    if incident.grants:
        yield "grants", incident.grants
    if incident.response:
        yield "response", incident.response
    yield "maps to", frameworks_line(incident.frameworks)
    if incident.next_step:
        yield "next", incident.next_step
    yield "id", incident.id


def _surroundings(offender: Offender) -> Iterable[tuple[str, str]]:
    return ("folder", offender.cwd), ("container", offender.container)


def _command(incident: Incident) -> str:
    """Return the offender's arguments as it was seen, or as they were recorded."""
    image, offender = incident.lineage[0].image, incident.offender
    if offender is None or not offender.command:
        return command_line(image)
    return _joined(offender.command)


def name_of(image: Image) -> str:
    """Return a process's name for a lineage: the last part of what was executed, quoted if it could mislead."""
    name = posixpath.basename(image.filename) or posixpath.basename(image.argv0)
    return shlex.quote(printable(name)) if name else "(unnamed)"


def lineage_line(steps: Iterable[Step]) -> str:
    """Return ``scanner <- bash <- claude <- bash``: the process first, its origin last."""
    return " <- ".join(name_of(step.image) for step in steps)


def process_line(image: Image) -> str:
    """Return the executed file, pid and user of an image."""
    interpreted = f" run by {image.interp}" if image.interp and image.interp != image.filename else ""
    return f"{image.filename}{interpreted}, pid {image.pid}, user {user_name(image.uid)}"


def command_line(image: Image) -> str:
    """Return the recorded arguments, quoted as a shell would want them; cut to MAX_COMMAND_CHARS."""
    return _joined((image.argv0, *image.args_head))


def _joined(words: Iterable[str]) -> str:
    line = shlex.join([printable(each) for each in words])
    return line if len(line) <= MAX_COMMAND_CHARS else f"{line[:MAX_COMMAND_CHARS]} ..."


def frameworks_line(frameworks: Frameworks) -> str:
    """Return the identifiers of all frameworks that the detection maps to."""
    named = (
        ("ATT&CK", frameworks.attack),
        ("ATLAS", frameworks.atlas),
        ("OWASP", frameworks.owasp),
        ("SAIF", frameworks.saif),
    )
    return "; ".join(f"{name} {' '.join(identifiers)}" for name, identifiers in named if identifiers)
