"""Cells of the table: for each a fresh watched file, one process that does one thing to it, and whom an incident names.

Those of one form and mode can be carried out at once: one watch on all their files, and the processes one after the
other. So the tier enforce is: where it is, all is emulated, and a watch a cell would take hours.
"""

import contextlib
import errno
import os
import re
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from agent_broker.monitor.incident import Incident
from tests.e2e.opens.batch import Ended, Start, carry_out
from tests.e2e.opens.mechanisms import CHANGES, LOOKS, OPENS, RECEIVES, Mechanism
from tests.e2e.opens.places import CONTENT, MACHINE, ROOT, USER, Ground, Place, Spot, place
from tests.fakes.sensing import Sensing

NAMED = "yes"
"""An incident names the process that did it: its pid, its program, and the one that started it."""
TOLD = "told"
"""There is an incident. Who did it is named if it lives until it was looked up: nothing makes it wait."""
SENDER = "sender"
"""An incident names the process that opened the file and sent the descriptor, not the one that got it."""
WRONG = "wrong"
"""There is an incident, and it names nobody, or somebody else."""
DENIED = "denied"
"""As ``yes``; and it was refused (EPERM; a descriptor does not arrive), and the file is as it was."""
SILENT = "silent"
"""It was refused as we refuse, and no incident says so. Root is never: what it lacks, the kernel itself says."""
UNSEEN = "no"
LEFT_OUT = ""
"""Not carried out: it is another row's scene there."""
REFUSED = "-"
"""The kernel refused it by itself, or there is no such thing here; nothing was opened or changed."""


class Mode(Struct, frozen=True):
    """How the file is watched."""

    tier: str
    permission: bool
    deny: bool = False

    @property
    def name(self) -> str:
        """The tier, and what else tells two modes apart."""
        return f"{self.tier}, denying" if self.deny and self.tier != "enforce" else self.tier


OBSERVE_PLUS = Mode("observe+", permission=True)
DENYING = Mode("observe+", permission=True, deny=True)
OBSERVE = Mode("observe", permission=False)
NONE = Mode("none", permission=True)
ENFORCE = Mode("enforce", permission=True, deny=True)
"""Carried out in the virtual machine (tests/vm/test_open_table.py)."""


class Cell(Struct, frozen=True):
    """What came of one mechanism on one form of path."""

    result: str
    detail: str = ""
    """The errno that it got, and what the incidents said."""


class Table:
    """Carries cells out, on one sensor."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._sensing = Sensing()

    async def cell(self, mechanism: Mechanism, form: str, mode: Mode, ground: Ground = MACHINE) -> Cell:
        """Carry one out."""
        return (await self.cells([mechanism], form, mode, ground))[mechanism.name]

    async def cells(
        self, rows: Sequence[Mechanism], form: str, mode: Mode, ground: Ground = MACHINE
    ) -> dict[str, Cell]:  # fmt: skip
        """Carry several out under one watch; return each by its mechanism's name.

        Only where every incident has a lineage: those of nobody in particular become one, and name the first.
        """
        cells = {row.name: Cell(LEFT_OUT) for row in rows}
        tried = [row for row in rows if not row.forms or form in row.forms]
        told: list[Incident] = []
        with place(form, [row.name for row in tried], self._programs, ground) as scene:
            watched = {row.name: scene.spots[row.name].watched for row in tried}
            watch = await self._sensing.watch(
                watched.values(), USER, told.append, tier=mode.tier, permission=mode.permission, deny=mode.deny
            )  # fmt: skip
            try:
                if scene.prepare:
                    scene.prepare()
                for row in tried:
                    if row.removed:
                        watched[row.name].unlink()
                done = await _carry_out(tried, scene, mode)
            finally:
                await watch.close()
            whole = {name for name, path in watched.items() if path.is_file() and path.read_bytes() == CONTENT}
        others = [each for each in told if not _is_ours(each)]
        for row in tried:
            incidents = [each for each in others if _may_be_of(each, watched[row.name], watched.values())]
            pid, error = done[row.name]
            detail = "; ".join([os.strerror(error) if error else "done", *(each.what for each in incidents)])
            outcome = Outcome(row.file, pid, error, incidents, row.name in whole)
            cells[row.name] = Cell(_result(row, mode, outcome), detail)
        return cells

    def close(self) -> None:
        self._sensing.close()


async def _carry_out(rows: Iterable[Mechanism], scene: Place, mode: Mode) -> dict[str, tuple[int, int]]:
    """Return by name the pid of who did it, and the errno that it got (0: none)."""
    done = {}
    with contextlib.ExitStack() as undo:
        starts = [(row, start) for row in rows for start in _starts(row, scene.spots[row.name], mode, undo)]
        for uid in {row.uid for row, _ in starts}:
            mine = [(row, start) for row, start in starts if row.uid == uid]
            ended = await carry_out([start for _, start in mine], scene, uid)
            for (row, _), each in zip(mine, ended, strict=True):
                if not done.get(row.name, (0, 0))[1]:  # else what was to send it has been refused
                    done[row.name] = (each.pid, _errno(row, each))
    return done


def _starts(row: Mechanism, spot: Spot, mode: Mode, undo: contextlib.ExitStack) -> list[Start]:
    """Return the processes that one cell takes; the last of them is the one that is meant."""
    if row.call not in {"send", "receive"}:
        return [Start(row.file, row.call, spot)]
    ours, theirs = (undo.enter_context(each) for each in socket.socketpair())
    if row.call == "send":
        return [Start(row.file, row.call, spot, stdout=ours.fileno())]
    theirs.setblocking(False)  # it is there by then, or who was to send it has been refused
    receives = Start(row.file, row.call, spot, stdin=theirs.fileno())
    if mode != ENFORCE:
        return [Start(row.file, "send", spot, stdout=ours.fileno()), receives]
    given = Path(spot.cwd, spot.given)  # nothing denies us
    with (given if given.exists() else spot.watched).open("rb") as file:
        socket.send_fds(ours, [b"x"], [file.fileno()])
    return [receives]


def _errno(row: Mechanism, ended: Ended) -> int:
    """Return what a program printed."""
    if row.name == "exec" and not ended.said:
        return 0  # its own image is gone: the file was executed
    return int(ended.said)


def _may_be_of(incident: Incident, path: Path, paths: Iterable[Path]) -> bool:
    """Whether an incident names the file, or none of the files."""
    named = {incident.path, *incident.paths}
    return str(path) in named or named.isdisjoint(map(str, paths))


class Outcome(Struct, frozen=True):
    """What one mechanism led to."""

    program: str
    """Its name."""
    pid: int
    error: int
    """The errno that it got; 0: none."""
    told: list[Incident]
    is_whole: bool
    """Whether the file is where it was, with its content."""

    @property
    def is_refused(self) -> bool:
        """Whether it is a denial of ours."""
        return self.error in {errno.EPERM, errno.EBADF} and self.is_whole


def _result(mechanism: Mechanism, mode: Mode, outcome: Outcome) -> str:
    if not outcome.told:
        if mode.deny and outcome.is_refused and mechanism.uid != ROOT:
            return SILENT
        return REFUSED if outcome.error and mechanism.kind != LOOKS else UNSEEN
    if mode == ENFORCE:
        return _enforced(outcome)
    if mechanism.kind == CHANGES or not mode.permission:
        return TOLD
    if mechanism.kind == RECEIVES:
        return NAMED if any(_names(each, outcome) for each in outcome.told) else SENDER
    return _opened(mechanism, mode, outcome)


def _opened(mechanism: Mechanism, mode: Mode, outcome: Outcome) -> str:
    """Return what is told of who opened and had to wait."""
    opens = [each for each in outcome.told if each.kind.endswith("-opened")]  # creat changes the content too: see TOLD
    if mode == NONE:
        is_somebody = mechanism.name == "child"  # its own pid, which it does not tell
        return TOLD if opens and all(is_somebody or f"(pid {outcome.pid})" in each.what for each in opens) else WRONG
    if not opens or not all(_names(each, outcome) for each in opens):
        return WRONG
    return DENIED if mode.deny and outcome.is_refused and mechanism.kind == OPENS else NAMED


def _enforced(outcome: Outcome) -> str:
    """Return what the kernel's own denial came to: told without one is told of a change that it let pass."""
    denied = [each for each in outcome.told if each.action == "denied"]
    if not denied and not outcome.error:
        return TOLD
    is_all = denied == outcome.told and all(_names(each, outcome) for each in denied)
    return DENIED if is_all and outcome.is_refused else WRONG


def _names(incident: Incident, outcome: Outcome) -> bool:
    """Whether the offender is the process, by its pid and by its program's path, and its starter is ours."""
    pids = [step.image.pid for step in incident.lineage]
    programs = [step.image.filename.rpartition("/")[2] for step in incident.lineage]
    return outcome.pid in pids and programs[0] == outcome.program and "batch" in programs and os.getpid() in pids[1:]


def _is_ours(incident: Incident) -> bool:
    """Whether it is of what we did ourselves to make the scene: without a lineage nothing says that we may."""
    return re.search(rf"\(pid {os.getpid()}[,)]", incident.what) is not None
