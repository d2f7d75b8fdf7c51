"""Whose doing it is: the line of a process, by which its events are folded into one incident (monitor.fold).

The law, from the recorded lineage alone:

1. Below an agent, everything under the same process that the agent itself started is one line: a tool that forks
   10,000 children is one, two tools of the agent are two. The family is the agent's process.
2. The agent's own main process (tainted) is a line of its own.
3. Outside of an agent a line is one program as started by one program, of one user. Processes in a row that run the
   same file are one (forks, double forks, a program that executes itself anew, ``grep`` in parallel), and so are all
   of them that the same process started (``find -exec cat``, a loop in a script). If what started it runs as somebody
   else (a login, ``sudo``, a service), the line is its own. The family is the user.
4. A lineage that is not known wholly is a line by what is known of it, in a family apart. Of whom nothing is known is
   one line together: there is nothing to tell them apart by.

A line is not an identity: whoever wants can be many (copies of a program under many names), and is then folded by its
family. It must only not be able to look like another's: the numbers are the kernel's, and a process can't choose its
parent or its executable's file system number without being what it says.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from agent_broker.identity.evidence import Evidence, Unknown, Verdict, offenders
from agent_broker.ids import ProcId
from agent_broker.lineage.record import Step

_Program = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Line:
    """See the module."""

    line: Hashable
    family: Hashable
    agent: ProcId | None = None
    """The agent's main process that it is below."""
    offender: ProcId | None = None


def line_of(verdict: Verdict) -> Line:
    """Return the line of the process that a verdict is about."""
    match verdict:
        case Evidence(steps=steps, principal=principal, uid=uid) if principal is None:
            return Line(_started(steps), ("user", uid), offender=steps[0].proc_id)
        case Evidence(steps=steps, principal=principal, uid=uid) if principal is not None and principal.is_caller:
            return Line(("agent", principal.proc_id), ("user", uid), offender=steps[0].proc_id)
        case Evidence(steps=steps, principal=principal) if principal is not None:
            topmost = offenders(steps, principal)[-1]
            return Line(("tool", topmost), ("agent", principal.proc_id), principal.proc_id, topmost)
        case Unknown(steps=steps, uid=uid) if steps:
            return Line(_started(steps), ("unknown", uid), offender=steps[0].proc_id)
        case _:
            return UNIDENTIFIED


UNIDENTIFIED = Line(("unidentified",), ("unidentified",))
"""Of whom nothing is known."""


def _started(steps: tuple[Step, ...]) -> Hashable:
    """Return what stands for one program as started by one program."""
    processes = tuple(_processes(steps))
    head = _head(processes, 0)
    program = _program(processes[head])
    above = head + 1
    if above >= len(processes) or processes[above].image.uid != processes[head].image.uid:
        return ("program", processes[head].proc_id, program)
    return ("started", processes[_head(processes, above)].proc_id, program)


def _head(processes: tuple[Step, ...], index: int) -> int:
    """Return the topmost process in a row that runs the same file as this one, for the same user."""
    program, uid = _program(processes[index]), processes[index].image.uid
    while index + 1 < len(processes):
        above = processes[index + 1]
        if _program(above) != program or above.image.uid != uid:
            break
        index += 1
    return index


def _processes(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Yield one step a process: with the image that it ran, or ran when it forked the one before."""
    last: ProcId | None = None
    for step in steps:
        if step.proc_id != last:
            last = step.proc_id
            yield step


def _program(step: Step) -> _Program:
    file = step.image.file
    return file.dev, file.ino, file.generation
