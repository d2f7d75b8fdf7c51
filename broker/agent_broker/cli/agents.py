"""``agent-broker agents``: who is enrolled, agents and tools."""

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import reader
from agent_broker.cli.terminal import columns, labelled, print_json, say, size, when
from agent_broker.identity.registry import Enrollment

app = typer.Typer(add_completion=False)


@app.command()
def agents(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON array of enrolments; a tool has serving.")] = False,
) -> None:
    """Show the enrolled agents and tools: whose they are, their binaries, credentials and decoys."""
    with reader(application.of(context).layout) as broker:
        enrolled = broker.agents()
    if json:
        print_json(enrolled)
        return
    if not enrolled:
        say("no agent is enrolled; next: sudo agent-broker enroll claude")
    for each in enrolled:
        sys.stdout.write("\n".join(_lines(each)) + "\n\n")


def _lines(enrollment: Enrollment) -> Iterable[str]:
    width = columns()
    what = "" if enrollment.serving is None else ", a tool"
    yield f"{enrollment.agent} of {enrollment.owner_name} ({enrollment.owner_uid}){what}"
    yield from labelled("since", when(enrollment.enrolled_ns), width, label_columns=14)
    for binary in enrollment.binaries:
        yield from labelled("binary", f"{binary.path}, {size(binary.size_bytes)}", width, label_columns=14)
        yield from labelled("sha256", binary.sha256, width, label_columns=14)
    for credential in enrollment.credentials:
        yield from labelled("credential", credential, width, label_columns=14)
    for decoy in enrollment.decoys:
        others = "others are denied" if decoy.deny else "others are served the decoy"
        yield from labelled("decoy", f"{decoy.path} ({others})", width, label_columns=14)
