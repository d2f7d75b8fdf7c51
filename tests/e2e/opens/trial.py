"""One cell of the table: a fresh watched file, one process that does one thing to it, and who the incident names."""

import asyncio
import errno
import os
import re
import socket
from pathlib import Path

from msgspec import Struct

from agent_broker.monitor.incident import Incident
from tests.e2e.opens.mechanisms import CHANGES, LOOKS, OPENS, RECEIVES, Mechanism, install
from tests.e2e.opens.places import CONTENT, MACHINE, USER, Ground, Place, place
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
"""Carried out in the virtual machine (tests/vm/test_table_enforced.py)."""
ENFORCED_FORMS = ("plain",)
"""The forms of path that are, there; it is emulated, and takes its time."""


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
        told: list[Incident] = []
        if mechanism.forms and form not in mechanism.forms:
            return Cell(LEFT_OUT)
        with place(form, ground) as scene:
            if scene.program:
                install(self._programs, scene.folder / "bin")
            watch = self._sensing.watch(
                scene.watched, USER, told.append, tier=mode.tier, permission=mode.permission, deny=mode.deny
            )  # fmt: skip
            try:
                if scene.prepare:
                    scene.prepare()
                if mechanism.removed:
                    scene.watched.unlink()
                pid, error = await self._carry_out(mechanism, scene, mode)
            finally:
                await watch.close()
            is_whole = scene.watched.is_file() and scene.watched.read_bytes() == CONTENT
        told = [each for each in told if not _is_ours(each)]
        detail = "; ".join([os.strerror(error) if error else "done", *(each.what for each in told)])
        return Cell(_result(mechanism, mode, Outcome(pid, error, told, is_whole)), detail)

    def close(self) -> None:
        self._sensing.close()

    async def _carry_out(self, mechanism: Mechanism, scene: Place, mode: Mode) -> tuple[int, int]:
        """Return the pid of who did it, and the errno that it got (0: none)."""
        if mechanism.kind == RECEIVES and mode == ENFORCE:
            return await self._hand_out(scene)
        if mechanism.name in {"send", "receive"}:
            return await self._pass_on(mechanism.name, scene)
        process = await self._start(mechanism, scene, mechanism.call, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        if mechanism.name == "exec" and not said:
            said = b"0"  # its own image is gone: the file was executed
        return process.pid, _errno(said)

    async def _pass_on(self, which: str, scene: Place) -> tuple[int, int]:
        """Have one process open and send, and another receive; return what came of the one that is meant."""
        sends = Mechanism("send", "")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sender = await self._start(sends, scene, "send", stdout=ours.fileno(), stderr=asyncio.subprocess.PIPE)
            _, sent = await sender.communicate()
            if which == "send" or _errno(sent):
                return sender.pid, _errno(sent)
            return await self._receive(scene, theirs)

    async def _hand_out(self, scene: Place) -> tuple[int, int]:
        """Send the descriptor ourselves, whom nothing denies, by the form's path if that leads to it from here."""
        ours, theirs = socket.socketpair()
        given = Path(scene.cwd, scene.given)
        with ours, theirs, (given if given.exists() else scene.watched).open("rb") as file:
            socket.send_fds(ours, [b"x"], [file.fileno()])
            return await self._receive(scene, theirs)

    async def _receive(self, scene: Place, end: socket.socket) -> tuple[int, int]:
        receiver = await self._start(
            Mechanism("receive", ""), scene, "receive", stdin=end.fileno(), stdout=asyncio.subprocess.PIPE
        )
        received, _ = await receiver.communicate()
        return receiver.pid, _errno(received)

    async def _start(
        self, mechanism: Mechanism, scene: Place, call: str, **streams: int
    ) -> asyncio.subprocess.Process:  # fmt: skip
        folder = Path(scene.program).parent if scene.program else self._programs
        command = (*scene.prefix, str(folder / mechanism.program), call, scene.given)
        uid = mechanism.uid
        return await asyncio.create_subprocess_exec(
            *command, user=uid, group=uid, extra_groups=(), cwd=scene.cwd,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **streams,
        )  # fmt: skip


def _errno(said: bytes) -> int:
    """Return what a program printed; EPERM if whatever starts it could not reach the file for it."""
    text = said.strip()
    return int(text) if text.isdigit() else errno.EPERM


class Outcome(Struct, frozen=True):
    """What one mechanism led to."""

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
        return REFUSED if outcome.error and mechanism.kind != LOOKS else UNSEEN
    if mode == ENFORCE:
        return _enforced(outcome)
    if mechanism.kind == CHANGES or not mode.permission:
        return TOLD
    if mechanism.kind == RECEIVES:
        return NAMED if any(_names(each, outcome.pid) for each in outcome.told) else SENDER
    return _opened(mechanism, mode, outcome)


def _opened(mechanism: Mechanism, mode: Mode, outcome: Outcome) -> str:
    """Return what is told of who opened and had to wait."""
    opens = [each for each in outcome.told if each.kind.endswith("-opened")]  # creat changes the content too: see TOLD
    if mode == NONE:
        is_somebody = mechanism.name == "child"  # its own pid, which it does not tell
        return TOLD if opens and all(is_somebody or f"(pid {outcome.pid})" in each.what for each in opens) else WRONG
    if not opens or not all(_names(each, outcome.pid) for each in opens):
        return WRONG
    return DENIED if mode.deny and outcome.is_refused and mechanism.kind == OPENS else NAMED


def _enforced(outcome: Outcome) -> str:
    """Return what the kernel's own denial came to: told without one is told of a change that it let pass."""
    denied = [each for each in outcome.told if each.action == "denied"]
    if not denied and not outcome.error:
        return TOLD
    is_all = denied == outcome.told and all(_names(each, outcome.pid) for each in denied)
    return DENIED if is_all and outcome.is_refused else WRONG


def _names(incident: Incident, pid: int) -> bool:
    """Whether the offender is the process, by its pid and by its program's path, and its starter is ours."""
    pids = [step.image.pid for step in incident.lineage]
    programs = [step.image.filename.rpartition("/")[2] for step in incident.lineage[:1]]
    return pid in pids and programs[0] in {"opener", "taker"} and os.getpid() in pids[1:]


def _is_ours(incident: Incident) -> bool:
    """Whether it is of what we did ourselves to make the scene: without a lineage nothing says that we may."""
    return re.search(rf"\(pid {os.getpid()}[,)]", incident.what) is not None
