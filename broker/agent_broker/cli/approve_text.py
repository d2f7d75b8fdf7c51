"""An update, for a person and as JSON. Paths and programs in it were chosen by whoever wrote the file."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from agent_broker.cli.plan_text import show_warnings
from agent_broker.cli.terminal import cell, labelled, plural, size, when
from agent_broker.enroll.update import Update
from agent_broker.enroll.vendor import AGREES, DISAGREES, Vendor, deviations
from agent_broker.identity.registry import EnrolledBinary
from agent_broker.monitor.provenance import Provenance, Seen

_SHOWN_PATHS = 5
"""Of each kind of deviation."""
_RECORDED_PATHS = 100


def show_update(update: Update, out: Console) -> None:
    """Print old beside new, who wrote the new one, and what its vendor's files say."""
    enrollment = update.enrollment
    out.print(cell(f"New version of {enrollment.agent} of {enrollment.owner_name} ({enrollment.owner_uid})", "bold"))
    out.print()
    _print_program(out, "enrolled", update.old, update.old_version, "")
    _print_program(out, "now", update.new.enrolled, update.vendor.version, f", changed {when(update.changed_ns)}")
    for number, line in enumerate(_provenance_lines(update.provenance)):
        _print(out, "" if number else "written", line)
    _print(out, "vendor", f"{_verdict(update.vendor.evidence)}: {update.vendor.what}")
    for line in _comparison_lines(update.vendor):
        _print(out, "", line)
    _print(out, "", "these are the user's own files: they show that things fit together, and prove nothing")
    show_warnings(tuple(_warnings(update)), out)


def update_record(update: Update) -> dict[str, Any]:
    """Return what ``--json`` prints of an update (docs/cli.md)."""
    return {
        "agent": update.enrollment.agent,
        "owner_uid": update.enrollment.owner_uid,
        "owner_name": update.enrollment.owner_name,
        "old": {"version": update.old_version, "binary": update.old},
        "new": {"version": update.vendor.version, "binary": update.new.enrolled, "changed_ns": update.changed_ns},
        "vendor": _vendor_record(update.vendor),
        "provenance": {
            "recorded": update.provenance.recorded,
            "complete": update.provenance.complete,
            "remark": update.provenance.remark,
            "writers": [_writer_record(seen) for seen in update.provenance.writers],
        },
        "running": update.running,
    }


def _vendor_record(vendor: Vendor) -> dict[str, Any]:
    found = vendor.comparison
    record: dict[str, Any] = {"evidence": vendor.evidence, "what": vendor.what, "comparison": None}
    if found is not None:
        record["comparison"] = {
            "files": found.files,
            "same": found.same,
            "packages": found.compared,
            "not_compared_packages": found.without,
            "contradicted": found.contradicted,
            "made_by_npm": len(found.made_by_npm),
            "deviations": [
                {"kind": kind, "count": len(paths), "paths": [_shown(each) for each in paths[:_RECORDED_PATHS]]}
                for kind, paths in deviations(found)
            ],
        }
    return record


def _comparison_lines(vendor: Vendor) -> Iterator[str]:
    """Name the first of the files that are not as the vendor made them."""
    for kind, paths in () if vendor.comparison is None else deviations(vendor.comparison):
        for path in paths[:_SHOWN_PATHS]:
            yield f"{kind}: {_shown(path)}"
        if len(paths) > _SHOWN_PATHS:
            yield f"{kind}: {len(paths) - _SHOWN_PATHS} more"


def _shown(path: bytes) -> str:
    """Return a path as text, with what is none as escapes."""
    return path.decode("utf-8", "backslashreplace")


def _writer_record(seen: Seen) -> dict[str, Any]:
    writer = seen.writer
    return {
        "program": writer.program,
        "pid": writer.pid,
        "uid": writer.uid,
        "did": sorted(seen.did),
        "time_ns": seen.time_ns,
        "lineage": writer.lineage,
        "agent": writer.agent,
        "is_agent": writer.is_agent,
        "package_manager": writer.package_manager,
        "problem": writer.problem,
    }


def _print_program(out: Console, label: str, binary: EnrolledBinary, version: str, changed: str) -> None:
    _print(out, label, f"version {version or 'not known'}, {size(binary.size_bytes)}{changed}")
    script = binary.script
    if script is not None:
        _print(out, "script", script.path)
        _print(out, "sha256", script.sha256)
        _print(out, "package", f"{script.bundle.root}, {plural(script.bundle.files, 'file')}")
        _print(out, "digest", script.bundle.digest)
    _print(out, "program", binary.path)
    _print(out, "sha256", binary.sha256)
    out.print()


def _provenance_lines(provenance: Provenance) -> Iterator[str]:
    if not provenance.recorded:
        yield f"not recorded: {provenance.remark}"
        return
    for seen in provenance.writers:
        writer = seen.writer
        who = f"{writer.program or 'a program'} (pid {writer.pid}" + (
            f", uid {writer.uid})" if writer.uid is not None else ")"
        )
        role = ""
        if writer.is_agent:
            role = f", the agent {writer.agent} itself"
        elif writer.agent is not None:
            role = f", in the lineage of the agent {writer.agent}"
        elif writer.package_manager:
            role = f", root's {writer.package_manager}"
        yield f"{when(seen.time_ns)} {who}{role}: {_deeds(seen)} it"
        if len(writer.lineage) > 1:
            yield f"started by {' < '.join(writer.lineage[1:])}"
        if writer.problem:
            yield writer.problem
    if provenance.remark:
        yield f"not all of it is recorded: {provenance.remark}"


def _deeds(seen: Seen) -> str:
    """Return ``created and wrote``; that it closed the file is told only of one of whom nothing else was seen."""
    told = [did for did in ("created", "wrote", "named") if did in seen.did]
    return " and ".join(told) if told else "had"


def _verdict(evidence: str) -> str:
    return {AGREES: "agrees", DISAGREES: "DISAGREES"}.get(evidence, "says nothing")


def _warnings(update: Update) -> Iterator[str]:
    if update.vendor.evidence == DISAGREES:
        yield "it is not what its vendor's own files say: unless you know why, answer no"
    strangers = [
        seen.writer for seen in update.provenance.writers if seen.writer.agent is not None and not seen.writer.is_agent
    ]
    if strangers:
        yield f"a program that {strangers[0].agent} started wrote it, perhaps a tool call: did you ask for an update?"
    if update.running:
        pids = ", ".join(map(str, update.running))
        yield f"the old version runs (pid {pids}): it is not the agent any more then; restart it"


def _print(out: Console, label: str, text: str) -> None:
    for line in labelled(label, text, out.width):
        out.print(cell(line))
