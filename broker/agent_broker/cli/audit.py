"""``agent-broker audit``: is the recorded history what was recorded?

The files are read here, by root: what the broker says about its own journal would prove nothing about the broker.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agent_broker.audit.verification import Verification
from agent_broker.audit.verification import verify as verify_journal
from agent_broker.cli import application
from agent_broker.cli.terminal import columns, labelled, plural, print_json, say
from agent_broker.errors import UnavailableError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Check the recorded decisions and alerts."""


@app.command()
def verify(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, a key for each journal.")] = False,
) -> None:
    """Check every line of the journals of decisions and alerts; root only. Works while the broker runs, or is down."""
    layout = application.of(context).layout
    if not layout.audit_folder.exists():
        raise UnavailableError(
            f"there is no {layout.audit_folder}: the broker has never run here, or its whole history was deleted",
            next_step="start it: agent-broker daemon (as root)",
        )
    journals = {"audit": layout.audit_log, "alerts": layout.alerts_log}
    found = {name: verify_journal(path) for name, path in journals.items()}
    if json:
        print_json(found)
        return
    for name, each in found.items():
        lines = labelled(name, f"{plural(each.entries, 'entry')} in {_files(each, journals[name])}", columns())
        if each.first > 1:
            lines += labelled("", f"from {each.first:,} on: older ones were removed, as [journal] keep says", columns())
        lines += labelled("", each.head, columns())
        sys.stdout.write("\n".join(lines) + "\n")
    for name, each in found.items():
        if each.unfinished_bytes:
            say(f"{name}: {plural(each.unfinished_bytes, 'byte')} at the end are of an entry that is being written")
    say("intact; the hash of the last entry, kept elsewhere, proves later that this history was not rewritten")


def _files(found: Verification, path: Path) -> str:
    return str(path) if found.segments == 1 else f"{path} and {plural(found.segments - 1, 'older file')}"
