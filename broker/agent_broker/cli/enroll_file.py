"""``agent-broker enroll --file PATH --for NAME`` and ``unenroll --file PATH``: a file becomes a view, and back."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_broker.cli.broker import administrator
from agent_broker.cli.enrolling import confirm, showing_steps, site_of
from agent_broker.cli.plan_text import show_report, show_warnings
from agent_broker.cli.terminal import cell, console, labelled, print_json
from agent_broker.clock import SystemClock
from agent_broker.config.layout import Layout
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.ports import Site
from agent_broker.enroll.report import Report
from agent_broker.enroll.view_apply import ViewSite, apply_view, recover_views, unenroll_view
from agent_broker.enroll.view_plan import Known, ViewPlan, make_view_plan, relative_to_home
from agent_broker.errors import MisuseError
from agent_broker.identity.planted import load_planted
from agent_broker.identity.registry import load_registry
from agent_broker.identity.viewed import load_viewed
from agent_broker.monitor.view_mount import is_mounted
from agent_broker.view.content import attributes_of


@dataclass(frozen=True)
class FileAsking:
    """How a person is talked to."""

    yes: bool
    dry_run: bool
    json: bool


def require_no_agent(*, named: bool) -> None:
    """Let pass a command that names no agent beside its file.

    Raises:
        MisuseError: it does.
    """
    if named:
        raise MisuseError("--file goes with no agent's name", next_step="say who reads it with --for")


def enroll_file(layout: Layout, path: Path, owner: Owner, readers: Sequence[str], asking: FileAsking) -> None:
    """Plan, show, ask, apply.

    Raises:
        MisuseError, UnavailableError, IntegrityError: see make_view_plan and apply_view.
    """
    plan = _plan(layout, path, owner, readers)
    if not asking.json:
        _show(plan)
    report: Report | None = None
    if not asking.dry_run:
        with administrator(layout) as client:
            confirm(f"Make {plan.viewed.absolute} a view?", yes=asking.yes)
            with showing_steps("enrolling") as on_step:
                report = apply_view(plan, _place(layout, site_of(layout, client, on_step)))
    if asking.json:
        print_json({"plan": _record(plan), "report": report})
    elif report is not None:
        show_report(report, console())


def unenroll_file(layout: Layout, path: Path, owner: Owner, asking: FileAsking) -> None:
    """Ask, and put the file back.

    Raises:
        MisuseError, UnavailableError, IntegrityError: see unenroll_view.
    """
    relative = relative_to_home(path, owner)
    found = [each for each in load_viewed(layout.files_folder) if (each.owner_uid, each.path) == (owner.uid, relative)]
    if not found:
        raise MisuseError(
            f"{path} of user {owner.name} is no view", next_step="after a crash: agent-broker enroll --recover"
        )
    with administrator(layout) as client:
        confirm(f"Put the content of {found[0].absolute} back into the file?", yes=asking.yes)
        with showing_steps("unenrolling") as on_step:
            report = unenroll_view(found[0].name, owner.uid, _place(layout, site_of(layout, client, on_step)))
    if asking.json:
        print_json({"report": report})
    else:
        show_report(report, console())


def recover_files(layout: Layout, site: Site) -> tuple[Report, ...]:
    """Finish what was interrupted with files. Raises as unenroll_view."""
    return recover_views(_place(layout, site))


def _plan(layout: Layout, path: Path, owner: Owner, readers: Sequence[str]) -> ViewPlan:
    return make_view_plan(
        path,
        owner,
        readers=readers,
        known=Known(
            agents=load_registry(layout.registry_folder),
            tools=load_registry(layout.tools_folder),
            files=load_viewed(layout.files_folder),
            planted=load_planted(layout.decoys_folder),
        ),
        view_folder=layout.view_folder,
        now_ns=SystemClock().wall_ns(),
        search_path=[Path(folder) for folder in os.environ.get("PATH", "").split(":") if folder],
    )


def _place(layout: Layout, site: Site) -> ViewSite:
    return ViewSite(
        site,
        files_dir=layout.files_folder,
        is_shown=lambda: is_mounted(layout.view_folder),
        attributes=attributes_of,
    )


def _show(plan: ViewPlan) -> None:
    out = console()
    viewed = plan.viewed
    out.print(cell(f"Plan: {viewed.absolute} of {viewed.owner_name} ({viewed.owner_uid}) becomes a view", "bold"))
    rows = [
        ("to vault", f"{viewed.content_id}, {plan.version.state.size_bytes} bytes"),
        ("link to", plan.target),
        ("real for", ", ".join(viewed.readers)),
        ("others", "read a decoy of the same shape, write nothing, and are told of"),
    ]
    for program in plan.programs:
        binary = program.binaries[0]
        rows.append((program.agent, binary.path if binary.script is None else f"{binary.script.path} by {binary.path}"))
    for label, text in rows:
        for line in labelled(label, text, out.width):
            out.print(cell(line))
    show_warnings(plan.warnings, out)


def _record(plan: ViewPlan) -> dict[str, Any]:
    return {
        "name": plan.viewed.name,
        "owner_uid": plan.viewed.owner_uid,
        "path": plan.viewed.absolute,
        "target": plan.target,
        "readers": plan.viewed.readers,
        "programs": [{"name": each.agent, "binary": each.binaries[0]} for each in plan.programs],
        "warnings": plan.warnings,
    }
