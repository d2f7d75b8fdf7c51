"""``agent-broker lineage PID``: where a live process comes from, as the kernel saw it."""

import sys
from textwrap import wrap
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import reader
from agent_broker.cli.incident_text import command_line, lineage_line
from agent_broker.cli.terminal import columns, labelled, print_json, printable, user_name
from agent_broker.errors import MisuseError
from agent_broker.ids import Pid
from agent_broker.lineage.record import Step
from agent_broker.monitor.messages import LineageAnswer

app = typer.Typer(add_completion=False)
MAX_PID = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h, 64 bit


@app.command()
def lineage(
    context: typer.Context,
    pid: Annotated[int, typer.Argument(metavar="PID", min=1, max=MAX_PID, help="A live process.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the recorded lineage of a process: each program it ran, each parent, up to its origin."""
    with reader(application.of(context).layout) as broker:
        answer = broker.lineage(Pid(pid))
    if not answer.steps:
        raise MisuseError(f"the lineage of pid {pid} is not known: {printable(answer.reason)}")
    if json:
        print_json(answer)
    else:
        _show(answer)


def _show(answer: LineageAnswer) -> None:
    width = columns()
    lines = [lineage_line(answer.steps), ""]
    for step in answer.steps:
        image = step.image
        before = ", before it executed the above" if step.relation == "exec" else ""
        lines += labelled(str(image.pid), f"{image.filename}, user {user_name(image.uid)}{before}", width)
        command = command_line(image)
        lines += labelled("", command, width) if command != image.filename else []
    for note in _notes(answer):
        lines += ["", *wrap(printable(note), width)]
    sys.stdout.write("\n".join(lines) + "\n")


def _notes(answer: LineageAnswer) -> list[str]:
    notes = [f"{_called(step)}: {taint}" for step in answer.steps for taint in step.image.taints]
    if any(not step.image.observed for step in answer.steps):
        notes.append("older than the monitor: what nobody saw start is shown as it is now, and gets no secret")
    if answer.reason:
        notes.append(f"incomplete: {answer.reason}")
    return notes


def _called(step: Step) -> str:
    return f"tainted, {step.image.filename} (pid {step.image.pid})"
