"""A plan of enrolment, for a person and as JSON. Neither holds a secret: a plan doesn't."""

from typing import Any

from rich.console import Console

from agent_broker.cli.terminal import cell, labelled, plural, printable, size, table
from agent_broker.enroll.plan import Plan
from agent_broker.enroll.report import Report
from agent_broker.identity.registry import EnrolledScript

MAX_NAME_SHARE = 0.4
"""Of the width: names up to it are not folded, so that texts are instead."""


def show_plan(plan: Plan, out: Console) -> None:
    """Print the table of files, the executables and the warnings."""
    out.print(
        cell(f"Plan: enroll {plan.agent} of {plan.owner.name} ({plan.owner.uid}), home {plan.owner.home}", "bold")
    )
    out.print()
    names = [_short(row.file, plan.owner.home) for row in plan.rows]
    files = table("file", "what is in it", "what will happen")
    files.columns[0].width = min(max(map(len, names), default=0), int(out.width * MAX_NAME_SHARE))
    for name, row in zip(names, plan.rows, strict=True):
        files.add_row(cell(name), cell(row.holds), cell(row.will))
    out.print(files)
    out.print()
    for binary in plan.binaries:
        _print(out, "binary", f"{binary.enrolled.path}, {size(binary.enrolled.size_bytes)}")
        _print(out, "sha256", binary.enrolled.sha256)
        if binary.enrolled.script is not None:
            _show_script(binary.enrolled.script, out)
    for decoy in plan.decoys:
        _print(out, "decoy", f"{decoy.path} ({'others are denied' if decoy.deny else 'others are served the decoy'})")
    for credential in plan.credentials:
        active = ", used by the agent" if credential.id == plan.active and plan.tool is None else ""
        _print(out, "to vault", f"{credential.id} ({credential.kind}{active})")
    for allowed in plan.allowed:
        _print(out, "allowed", f"{allowed.name}={allowed.value} ({allowed.why})")
    show_warnings(plan.warnings, out)


def show_report(report: Report, out: Console, *, as_planned: bool = False) -> None:
    """Print what was done to each file, and what is left to do.

    Args:
        report: the end of a transaction.
        out: where to.
        as_planned: the plan was shown already, so the files are counted, not listed.
    """
    if as_planned:
        out.print(cell(f"{plural(len(report.outcomes), 'file')} changed as planned"))
    else:
        for outcome in report.outcomes:
            out.print(cell(outcome.file))
            _print(out, "", outcome.what)
    show_warnings(report.warnings, out)
    out.print(cell(f"{report.agent} of {report.owner_name} is now {report.summary}", "bold"))


def show_warnings(warnings: tuple[str, ...], out: Console) -> None:
    """Print warnings, each marked."""
    for warning in warnings:
        for line in labelled("warning", warning, out.width):
            out.print(cell(line, "yellow"))


def plan_record(plan: Plan) -> dict[str, Any]:
    """Return what ``--json`` prints of a plan (docs/cli.md)."""
    return {
        "agent": plan.agent,
        "owner_uid": plan.owner.uid,
        "owner_name": plan.owner.name,
        "home": plan.owner.home,
        "files": [{"file": row.file, "holds": row.holds, "will": row.will} for row in plan.rows],
        "credentials": [{"id": each.id, "kind": each.kind, "file": each.file} for each in plan.credentials],
        "active": plan.active,
        "account": plan.account,
        "binaries": [binary.enrolled for binary in plan.binaries],
        "decoys": plan.decoys,
        "allowed_environment": [
            {"name": each.name, "value": printable(each.value), "why": each.why} for each in plan.allowed
        ],
        "warnings": plan.warnings,
    }


def _show_script(script: EnrolledScript, out: Console) -> None:
    bundle = script.bundle
    _print(out, "script", script.path)
    _print(out, "package", f"{bundle.root}, {plural(bundle.files, 'file')}, {size(bundle.size_bytes)}")
    _print(out, "digest", bundle.digest)


def _short(path: str, home: str) -> str:
    """The home is named above the table."""
    home = home.rstrip("/") + "/"
    return "~/" + path.removeprefix(home) if path.startswith(home) else path


def _print(out: Console, label: str, text: str) -> None:
    for line in labelled(label, text, out.width):
        out.print(cell(line))
