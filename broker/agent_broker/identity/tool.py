"""From a lineage to the tool that a shim serves: git, docker, aws, found by what is enrolled and not by its name.

The law:
1. The tool is the nearest image on the way up that is an enrolled tool's file, in its role (identity.principal), and
   was started after it was enrolled, so that its arguments and its environment are known from the kernel.
2. Between the caller and the tool stands nothing that an attacker could have put there: the caller's own image is the
   enrolled shim, and every other one is a shell of an intact package of the distribution that was given exactly the
   command that the enrolment wrote. A setting of the tool's that starts another helper, or the shim with other ends,
   is another command. A tool without a shim (ssh) asks itself: nothing stands between, not even a child of it.
3. A terminal of the user's: every program from the tool up to the one that opened the session is an intact package's,
   and none of them runs a script or a command: a person typed it. Anything else is not (``no_terminal`` says why).

What it can't tell: what the tool's own configuration files make a genuine tool do with what it is given.
"""

import asyncio
import contextlib
import os
import posixpath
import re
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from agent_broker.identity.allowed import is_interpreter
from agent_broker.identity.distribution import Distribution
from agent_broker.identity.evidence import ToolUse
from agent_broker.identity.principal import Found, FoundTool, Needed
from agent_broker.ids import ExecId
from agent_broker.kernel.events import FileFacts
from agent_broker.lineage.record import Image, Step

_SHELL: Final = re.compile(r"(?:ba|da|z|k|mk|fi|a|rba)?sh")
_ASKS_NOTHING: Final = re.compile(r"--[a-z-]+|-[^c-]*")
"""Of a shell's arguments: an option, and not the one that a command comes with."""
_SESSION_OF_ROOT: Final = frozenset({"sshd", "sshd-session", "login", "su", "sudo", "doas", "runuser"})
"""Programs that open a session for somebody: only where root ran them; a user's own ``sudo`` is one more step."""
_TERMINALS: Final = frozenset(
    """
    alacritty foot ghostty gnome-terminal-server kgx kitty konsole lxterminal mate-terminal ptyxis qterminal screen
    st terminology tilix tmux urxvt wezterm-gui xfce4-terminal xterm
    """.split()  # noqa: SIM905 - a list of words
)

_REMEMBERED: Final = 4096


class _Looking(Struct):
    """What was asked of the distribution on the way through one lineage."""

    missing: list[tuple[str, FileFacts]] = field(default_factory=list)


class ToolJudge:
    """See the module. Belongs to the monitor's event loop."""

    def __init__(self, packages: Distribution) -> None:
        """Ask this database; it is searched in a thread."""
        self._packages = packages
        self._names: OrderedDict[ExecId, str] = OrderedDict()
        self._stamp: tuple[int, ...] = ()

    def judge(self, steps: tuple[Step, ...], found: Found) -> tuple[ToolUse | None, Needed | None]:
        """Return the tool that the caller serves, if a search found one, and what must be looked at first.

        Args:
            steps: a complete lineage, the caller first.
            found: the end of its search.
        """
        if found.needed is not None or found.tool is None:
            return None, found.needed
        looking = _Looking()
        tool = found.tool
        no_terminal = ""
        problem = _caller_problem(steps[: tool.place], tool)
        is_caller = tool.place == 0
        if not problem:
            problem = self._links_problem(steps[1 : tool.place], tool, looking)
        if not problem or is_caller:  # who else does not ask through the shim is not looked into any further
            no_terminal = "" if found.principal is not None else self._no_terminal(steps[tool.place + 1 :], looking)
        if looking.missing:
            return None, Needed(None, packages=tuple(dict.fromkeys(looking.missing)))
        who = tool.principal
        use = ToolUse(who.agent, who.owner_uid, who.proc_id, who.exec_id, who.sha256, problem, no_terminal, is_caller)
        return use, None

    async def look_up(self, files: Iterable[tuple[str, FileFacts]]) -> None:
        """Find out whose these files are, so that ``judge`` knows."""
        for path, facts in files:
            await asyncio.to_thread(self._packages.owner_of, path, facts)

    def _links_problem(self, links: tuple[Step, ...], tool: FoundTool, looking: _Looking) -> str:
        serving = tool.known.enrollment.serving
        commands = () if serving is None else serving.commands
        for step in links:
            image = step.image
            if image.exec_id == tool.principal.exec_id:
                continue  # the tool's child, before it became the next program
            name = self._name_of(image, looking)
            if not image.observed or image.taints or not _SHELL.fullmatch(name):
                return f"{image.filename} stands between it and the shim"
            if image.args_head[:1] != ("-c",) or not set(image.args_head[1:2]) <= set(commands):
                return f"{image.filename}, between it and the shim, was given another command than the enrolled one"
        return ""

    def _no_terminal(self, above: tuple[Step, ...], looking: _Looking) -> str:
        for step in above:
            image = step.image
            name = self._name_of(image, looking)
            if not name:
                return f"{image.filename}, which started it, is no program of the distribution"
            if name in _TERMINALS or (name in _SESSION_OF_ROOT and image.uid == 0):
                return ""
            if problem := _runs_something(image, name):
                return problem
        return "no terminal is on its way to the start of the machine"

    def _name_of(self, image: Image, looking: _Looking) -> str:
        """Return the base name of a file of an intact package, by its place there; empty: it is none, or not yet.

        An image stays what was executed: what was found of it is as good as what the distribution remembers.
        """
        if self._packages.stamp != self._stamp:
            self._names.clear()
            self._stamp = self._packages.stamp
        if image.exec_id in self._names:
            return self._names[image.exec_id]
        missing = []
        for path in _places_of(image):
            known = self._packages.known(path, image.file)
            if known is None:
                missing.append((path, image.file))
            elif known[0] is not None and known[0].intact:
                self._names[image.exec_id] = posixpath.basename(path)
                if len(self._names) > _REMEMBERED:
                    self._names.popitem(last=False)
                return posixpath.basename(path)
        looking.missing += missing
        return ""


def _caller_problem(links: tuple[Step, ...], tool: FoundTool) -> str:
    serving = tool.known.enrollment.serving
    if serving is not None and not serving.shim:
        return f"{links[0].image.filename}, which it started, asks in its place" if links else ""
    if not links:
        return "it does not ask through the shim"
    caller = links[0].image
    if not caller.observed or caller.file != tool.known.shim or caller.taints:
        return f"{caller.filename} is not the shim that was enrolled"
    return ""


def _runs_something(image: Image, name: str) -> str:
    if _SHELL.fullmatch(name):
        if not image.observed:
            return f"{image.filename} is older than the monitor: open a new terminal"
        if all(map(_ASKS_NOTHING.fullmatch, image.args_head)):
            return ""
        return f"{image.filename}, which started it, runs a command or a script"
    if is_interpreter(name):
        return f"{image.filename}, which started it, runs whatever it is given"
    return ""


def _places_of(image: Image) -> Iterable[str]:
    """Yield where an image's file may lie; which of them it is, its numbers say."""
    with contextlib.suppress(OSError):
        yield str(Path(f"/proc/{image.pid}/exe").readlink())  # the process may run something else by now
    if image.filename.startswith("/"):
        yield os.path.realpath(image.filename)
