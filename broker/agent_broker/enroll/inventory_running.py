"""Credentials in the environment of agents that run now: names only. For root, who alone may look at all of them.

What is read is the environment at exec (environ of proc(5)), which a process may have written over: it is told, and
decides nothing. No value leaves this module.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from agent_broker.enroll.inventory_agents import COMMANDS
from agent_broker.enroll.inventory_values import PHANTOM, kind_of_value
from agent_broker.ids import Uid

_PROC = Path("/proc")
_MAX_BYTES = 4 * 1024 * 1024
_MAX_PROCESSES = 100_000


class Held(Struct, frozen=True):
    """One variable of one process."""

    pid: int
    agent: str
    name: str
    kind: str


def held_by_agents(uid: Uid, programs: dict[str, str], phantom_prefix: str) -> Iterator[Held]:
    """Yield the credentials in the environment of a user's agents.

    Args:
        uid: whose processes.
        programs: resolved path of a program: the agent that it is.
        phantom_prefix: how a phantom begins; a phantom is no credential.
    """
    for _, entry in zip(range(_MAX_PROCESSES), _PROC.iterdir(), strict=False):
        if not entry.name.isdecimal():
            continue
        try:
            if entry.stat().st_uid != uid or not (agent := _agent_of(entry, programs)):
                continue
            with (entry / "environ").open("rb") as file:
                block = file.read(_MAX_BYTES)
        except OSError:  # gone, or a kernel thread
            continue
        for variable in block.split(b"\0"):
            name, equals, value = variable.decode("utf-8", "surrogateescape").partition("=")
            kind = kind_of_value(name, value, phantom_prefix) if equals and name.isidentifier() else ""
            if kind and kind != PHANTOM and name.isascii():
                yield Held(int(entry.name), agent, name[:128], kind)


def _agent_of(entry: Path, programs: dict[str, str]) -> str:
    """Return which agent a process is, by its executable or, if an interpreter runs it, by its script; empty: none."""
    exe = str((entry / "exe").readlink()).removesuffix(" (deleted)")
    if exe in programs:
        return programs[exe]
    with (entry / "cmdline").open("rb") as file:
        words = file.read(64 * 1024).split(b"\0")[:8]
    for word in words[1:]:
        if word.startswith(b"/"):
            place = os.fsdecode(word)
            if place in programs or os.path.basename(place) in COMMANDS:  # noqa: PTH119 - a name, no path to look at
                return programs.get(place) or COMMANDS[os.path.basename(place)]  # noqa: PTH119 - as above
    return COMMANDS.get(Path(exe).name, "")
