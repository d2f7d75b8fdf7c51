"""One cell of the table: a fresh watched file, one process that does one thing to it, and who the incident names."""

import asyncio
import errno
import os
import socket
from pathlib import Path

from msgspec import Struct

from agent_broker.monitor.incident import Incident
from tests.e2e.opens.mechanisms import CHANGES, LOOKS, OPENS, RECEIVES, Mechanism, install
from tests.e2e.opens.places import USER, Place, place
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
"""As ``yes``; and the open was refused with EPERM."""
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


OBSERVE_PLUS = Mode("observe+", permission=True)
DENYING = Mode("observe+", permission=True, deny=True)
OBSERVE = Mode("observe", permission=False)


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

    async def cell(self, mechanism: Mechanism, form: str, mode: Mode) -> Cell:
        """Carry one out."""
        told: list[Incident] = []
        if mechanism.forms and form not in mechanism.forms:
            return Cell(LEFT_OUT)
        with place(form) as scene:
            if scene.program:
                install(self._programs, scene.folder / "bin")
            watch = self._sensing.watch(
                scene.watched, USER, told.append, permission=mode.permission, deny=mode.deny
            )  # fmt: skip
            try:
                if scene.prepare:
                    scene.prepare()
                if mechanism.removed:
                    scene.watched.unlink()
                pid, error = await self._carry_out(mechanism, scene)
            finally:
                await watch.close()
        detail = "; ".join([os.strerror(error) if error else "done", *(each.what for each in told)])
        return Cell(_result(mechanism, mode, pid, error, told), detail)

    def close(self) -> None:
        self._sensing.close()

    async def _carry_out(self, mechanism: Mechanism, scene: Place) -> tuple[int, int]:
        """Return the pid of who did it, and the errno that it got (0: none)."""
        if mechanism.name in {"send", "receive"}:
            return await self._pass_on(mechanism.name, scene)
        process = await self._start(mechanism, scene, mechanism.call, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        if mechanism.name == "exec" and not said:
            said = b"0"  # its own image is gone: the file was executed
        return process.pid, _errno(said)

    async def _pass_on(self, which: str, scene: Place) -> tuple[int, int]:
        """Have one process open and send, and another receive; return what came of the one that is meant."""
        sends, receives = Mechanism("send", ""), Mechanism("receive", "")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sender = await self._start(sends, scene, "send", stdout=ours.fileno(), stderr=asyncio.subprocess.PIPE)
            _, sent = await sender.communicate()
            if which == "send" or _errno(sent):
                return sender.pid, _errno(sent)
            receiver = await self._start(
                receives, scene, "receive", stdin=theirs.fileno(), stdout=asyncio.subprocess.PIPE
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


def _result(mechanism: Mechanism, mode: Mode, pid: int, error: int, told: list[Incident]) -> str:
    if not told:
        return REFUSED if error and mechanism.kind != LOOKS else UNSEEN
    if mechanism.kind == CHANGES or not mode.permission:
        return TOLD
    if mechanism.kind == RECEIVES:
        return NAMED if any(_names(each, pid) for each in told) else SENDER
    opens = [each for each in told if each.kind.endswith("-opened")]  # creat changes the content too: see TOLD
    if not opens or not all(_names(each, pid) for each in opens):
        return WRONG
    return DENIED if mode.deny and error == errno.EPERM and mechanism.kind == OPENS else NAMED


def _names(incident: Incident, pid: int) -> bool:
    """Whether the offender is the process, by its pid and by its program's path, and its starter is ours."""
    pids = [step.image.pid for step in incident.lineage]
    programs = [step.image.filename.rpartition("/")[2] for step in incident.lineage[:1]]
    return pid in pids and programs[0] in {"opener", "taker"} and os.getpid() in pids[1:]
