"""Decoys and plans of decoys, for a person and as JSON. Neither holds a value."""

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console

from agent_broker.cli.terminal import below_home, cell, labelled, plural, table, when
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.plant import PlantPlan
from agent_broker.enroll.plant_restore import PlantOutcome
from agent_broker.enroll.plant_targets import Target
from agent_broker.identity.planted import PlantedDecoy


def show_plans(plans: Sequence[PlantPlan], out: Console) -> None:
    """Print what would be planted."""
    if not plans:
        out.print(cell("Nothing to plant: no place of this home fits"))
        return
    owner = plans[0].owner
    out.print(
        cell(f"Plan: plant {plural(len(plans), 'decoy')} for {owner.name} ({owner.uid}), home {owner.home}", "bold")
    )
    for plan in plans:
        out.print(cell(f"~/{plan.path}"))
        _line(out, "looks like", f"{plan.kind.looks_like} ({plan.kind.name}, {plan.token.name})")
        _line(out, "the file", _what_happens(plan))
        _line(out, "harmless", plan.kind.never_outranks)
        if plan.shared:
            why = "the user's own tools read this file" if plan.holds_more else "its tool opens this file by itself"
            _line(out, "careful", f"{why}: a file that no tool opens tells more surely")
        _line(out, "others", "are denied where the tier can" if plan.deny else "are served the decoy")


def show_outcomes(outcomes: Sequence[PlantOutcome], out: Console) -> None:
    """Print what became of each decoy."""
    for outcome in outcomes:
        out.print(cell(f"{outcome.path}"))
        _line(out, "decoy", f"{outcome.kind}, {outcome.what}")
        for warning in dict.fromkeys(outcome.warnings):
            _line(out, "warning", warning)


def show_decoys(decoys: Sequence[PlantedDecoy], now_ns: int, out: Console) -> None:
    """Print the table of planted decoys; the owner's home is a ``~``."""
    shown = table("path", "kind", "owner", "until", "others")
    for each in decoys:
        until = when(each.expires_ns, to_the="day") if each.expires_ns else "never"
        due = each.expires_ns and each.expires_ns <= now_ns
        shown.add_row(
            cell(below_home(each.path, each.owner_uid)),
            cell(each.kind),
            cell(each.owner_name),
            cell(f"{until}, due" if due else until, "yellow" if due else ""),
            cell("denied" if each.deny else "served"),
        )
    out.print(shown)


def show_targets(targets: Sequence[Target], owner: Owner, out: Console) -> None:
    """Print which places fit, and why the others don't."""
    fitting = [each for each in targets if each.fits]
    out.print(cell(f"Places for decoys in {owner.home}", "bold"))
    if fitting:
        shown = table("kind", "file", "what a thief believes to find")
        for each in fitting:
            shown.add_row(cell(each.kind.name), cell(f"~/{each.kind.default_path}"), cell(each.kind.looks_like))
        out.print(shown)
        out.print(cell(f"next: sudo agent-broker decoy plant --all-targets --user {owner.name}"))
    out.print()
    shown = table("no place for", "why")
    for each in targets:
        if not each.fits:
            shown.add_row(cell(each.kind.name), cell(each.why))
    out.print(shown)


def decoy_record(decoy: PlantedDecoy, now_ns: int) -> dict[str, Any]:
    """Return a decoy as JSON has it: without the digests of its values."""
    record: dict[str, Any] = msgspec.to_builtins(decoy)
    del record["values_sha256"]
    return {**record, "expired": bool(decoy.expires_ns and decoy.expires_ns <= now_ns)}


def plan_record(plan: PlantPlan) -> dict[str, Any]:
    """Return a plan as JSON has it."""
    return {
        "kind": plan.kind.name,
        "path": plan.absolute,
        "name": plan.token.name,
        "owner_uid": plan.owner.uid,
        "owner_name": plan.owner.name,
        "file": _what_happens(plan),
        "deny": plan.deny,
        "lifetime_ns": plan.lifetime_ns,
    }


def _what_happens(plan: PlantPlan) -> str:
    if plan.version is None:
        made = f", with {plural(len(plan.folders), 'folder')}" if plan.folders else ""
        return f"is made{made}, readable by its owner alone"
    return "gets one entry more; what it holds stays byte for byte"


def _line(out: Console, label: str, text: str) -> None:
    for line in labelled(label, text, out.width, label_columns=15):
        out.print(cell(line))
