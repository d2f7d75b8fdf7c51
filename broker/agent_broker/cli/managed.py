"""``agent-broker managed``: Claude Code's settings for every user of the machine."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_broker.cli import application
from agent_broker.cli.broker import administrator
from agent_broker.cli.enroll import injection_url
from agent_broker.cli.enrolling import confirm, require_answer, require_root, showing_steps, site_of
from agent_broker.cli.plan_text import show_report, show_warnings
from agent_broker.cli.run import PROTOCOL, SHIM
from agent_broker.cli.terminal import cell, console, print_json
from agent_broker.config.layout import ENVIRONMENT_VARIABLE, Layout
from agent_broker.enroll.managed import MANAGED, ROOT, ManagedPlan, apply_managed, plan_managed
from agent_broker.enroll.recipe import SetMember
from agent_broker.enroll.undo import unenroll
from agent_broker.identity.registry import load_registry

app = typer.Typer(add_completion=False, no_args_is_help=True)

_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object; with --yes or --dry-run.")]


@app.callback()
def managed() -> None:
    """Lead the Claude Code of every user to the broker, so that no project's settings can lead it elsewhere."""


@app.command("set")
def set_(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    yes: _Yes = False,
    json: _Json = False,
) -> None:
    """Write managed-settings.json: the broker's address, and a helper that prints each user's phantom."""
    state = application.of(context)
    layout = state.layout
    require_root()
    require_answer(json=json, given=yes or dry_run, how="--yes or --dry-run")
    enrolled = load_registry(layout.registry_folder)
    plan = plan_managed(layout.managed_folder, injection_url(state.config().inject), helper_of(layout), enrolled)
    if not json:
        _show(plan)
    report = None
    if not dry_run:
        confirm("Write it?", yes=yes)
        with administrator(layout) as client, showing_steps("writing") as on_step:
            report = apply_managed(plan, site_of(layout, client, on_step))
    if json:
        print_json({"plan": _record(plan), "report": report})
    elif report is not None:
        show_report(report, console(), as_planned=True)


@app.command()
def remove(context: typer.Context, yes: _Yes = False, json: _Json = False) -> None:
    """Put the managed settings back as they were; each user's enrolment stays."""
    layout = application.of(context).layout
    require_root()
    require_answer(json=json, given=yes)
    with administrator(layout) as client:
        confirm("Put the managed settings back as they were?", yes=yes)
        with showing_steps("putting back") as on_step:
            report = unenroll(MANAGED, ROOT, site_of(layout, client, on_step))
    if json:
        print_json({"report": report})
    else:
        show_report(report, console())


def helper_of(layout: Layout) -> str:
    """Return the shell command that prints the phantom of whoever runs it."""
    command = f"{shlex.quote(str(SHIM))} {PROTOCOL}"
    elsewhere = layout.root != Path("/")
    return f"{ENVIRONMENT_VARIABLE}={shlex.quote(str(layout.root))} {command}" if elsewhere else command


def _show(plan: ManagedPlan) -> None:
    out = console()
    out.print(cell(f"Plan: {plan.file}, {'edited' if plan.content else 'made'}", "bold"))
    for member, value in _record(plan)["members"].items():
        out.print(cell(f"  {member}: {value}"))
    show_warnings(plan.warnings, out)


def _record(plan: ManagedPlan) -> dict[str, Any]:
    members = {".".join(edit.path): edit.value for edit in plan.edits if isinstance(edit, SetMember)}
    return {"file": str(plan.file), "exists": plan.content is not None, "members": members, "warnings": plan.warnings}
