"""An incident as an OCSF event: Detection Finding (class 2004) of OCSF 1.8.0, with process and file as evidence.

Pure: no clock, no disk. The first telling of an incident is the activity Create, a later revision of it Update with the
same ``finding_info.uid``. What OCSF has no place for (OWASP and SAIF identifiers, the tier) stands in
``finding_info.tags``, the lineage with every image in ``unmapped.lineage``, the offender's arguments one by one in
``unmapped.command``. Source: https://schema.ocsf.io/1.8.0/classes/detection_finding.
"""

from typing import Any, Final

import agent_broker
from agent_broker.lineage.record import Step
from agent_broker.monitor.incident import Incident

VERSION: Final = "1.8.0"
CLASS_UID: Final = 2004
ATTACK_VERSION: Final = "19"  # monitor.frameworks: MITRE ATT&CK v19, MITRE ATLAS v5.6.0
ATLAS_VERSION: Final = "5.6.0"
MAX_ANCESTRY: Final = 32

_CREATE, _UPDATE = (1, "Create"), (2, "Update")
_SEVERITIES = {"info": (1, "Informational"), "warning": (3, "Medium"), "critical": (5, "Critical")}
_UNKNOWN = (0, "Unknown")
_ACTIONS = {
    # our action: (action_id, action, disposition_id, disposition)
    "denied": (2, "Denied", 2, "Blocked"),
    "refused": (2, "Denied", 2, "Blocked"),
    "served-decoy": (1, "Allowed", 15, "Detected"),
    "approved": (1, "Allowed", 8, "Approved"),
    "only-seen": (3, "Observed", 15, "Detected"),
}
_FILE_TYPES = {True: (1, "Regular File"), False: (0, "Unknown")}
_SHA256 = 3
_NS_PER_MS = 1_000_000


def detection_finding(incident: Incident, number: int) -> dict[str, Any]:
    """Return the event.

    Args:
        incident: any; unknown parts are left out.
        number: becomes ``metadata.sequence`` (sinks.port).
    """
    activity_id, activity = _UPDATE if incident.revision else _CREATE
    severity_id, severity = _SEVERITIES.get(incident.severity, _UNKNOWN)
    last_ms = max(incident.last_ns, incident.time_ns) // _NS_PER_MS
    evidences = _evidences(incident)
    event = {
        "activity_id": activity_id,
        "activity_name": activity,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + activity_id,
        "type_name": f"Detection Finding: {activity}",
        "time": last_ms,
        "start_time": incident.time_ns // _NS_PER_MS,
        "end_time": last_ms,
        "count": incident.count,
        "severity_id": severity_id,
        "severity": severity,
        "message": incident.what,
        "is_alert": incident.severity == "critical",
        "status_id": 1,
        "status": "New",
        **_action(incident.action),
        "metadata": _metadata(incident, number),
        "finding_info": _finding_info(incident),
    }
    if incident.lineage:
        event["unmapped"] = {"command": _command(incident), "lineage": _lineage(incident)}
    if evidences:
        event["evidences"] = evidences
    if incident.next_step:
        event["remediation"] = {"desc": incident.next_step}
    if incident.response:
        event["status_detail"] = incident.response
    return event


def _metadata(incident: Incident, number: int) -> dict[str, Any]:
    has_container = incident.offender is not None and bool(incident.offender.container)
    return {
        "version": VERSION,
        "product": {"name": "agent-broker", "vendor_name": "agent-broker", "version": agent_broker.__version__},
        "profiles": ["security_control", *(["container"] if has_container else [])],
        "uid": f"{incident.id}-{incident.revision}",
        "correlation_uid": incident.session or incident.id,
        "event_code": incident.kind,
        "sequence": number,
    }


def _finding_info(incident: Incident) -> dict[str, Any]:
    frameworks = incident.frameworks
    attacks = [_attack(uid, ATTACK_VERSION) for uid in frameworks.attack]
    attacks += [_attack(uid, ATLAS_VERSION) for uid in frameworks.atlas]
    info: dict[str, Any] = {
        "uid": incident.id,
        "title": incident.kind.replace("-", " "),
        "desc": incident.what,
        "types": [incident.kind],
        "created_time": incident.time_ns // _NS_PER_MS,
        "first_seen_time": incident.time_ns // _NS_PER_MS,
        "last_seen_time": max(incident.last_ns, incident.time_ns) // _NS_PER_MS,
        "analytic": {"name": incident.kind, "uid": incident.kind, "type_id": 1, "type": "Rule"},
        "tags": _tags(incident),
    }
    if attacks:
        info["attacks"] = attacks
    return info


def _tags(incident: Incident) -> list[dict[str, Any]]:
    single = {
        "tier": incident.tier,
        "agent": incident.agent or "",
        "session": incident.session,
        "role": incident.role,
        "holds": incident.holds,
        "package": "" if incident.offender is None else incident.offender.package,
        "grants": incident.grants,
        "boot_ns": str(incident.boot_ns) if incident.boot_ns else "",
    }
    tags: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in single.items() if value]
    several = {"owasp": incident.frameworks.owasp, "saif": incident.frameworks.saif, "changes": incident.changes}
    return tags + [{"name": name, "values": list(values)} for name, values in several.items() if values]


def _attack(uid: str, version: str) -> dict[str, Any]:
    """``T1552.001`` and ``AML.T0091.000`` are sub-techniques: they name their technique too."""
    family, dot, rest = uid.removeprefix("AML.").partition(".")
    if not dot:
        return {"version": version, "technique": {"uid": uid}}
    technique = uid.removesuffix(f".{rest}")
    return {"version": version, "technique": {"uid": technique}, "sub_technique": {"uid": uid}} if family else {}


def _action(action: str) -> dict[str, Any]:
    action_id, name, disposition_id, disposition = _ACTIONS.get(action, (99, action, 99, action))
    return {
        "action_id": action_id,
        "action": name,
        "disposition_id": disposition_id,
        "disposition": disposition,
    }


def _evidences(incident: Incident) -> list[dict[str, Any]]:
    process = _process(incident)
    first: dict[str, Any] = {"name": incident.action}
    if process:
        first["process"] = process
    if _is_file(incident.path):
        first["file"] = _file(incident.path, is_regular=bool(incident.role))
    elif incident.path:
        first["data"] = {"target": incident.path}
    if incident.offender is not None and incident.offender.container:
        first["container"] = {"uid": incident.offender.container}
    further = [
        {"file": _file(path, is_regular=True)} for path in incident.paths if _is_file(path) and path != incident.path
    ]
    return [*([first] if len(first) > 1 else []), *further]


def _is_file(path: str) -> bool:
    return path.startswith("/")


def _file(path: str, sha256: str | None = None, *, is_regular: bool) -> dict[str, Any]:
    parent, _, name = path.rpartition("/")
    type_id, caption = _FILE_TYPES[is_regular]
    file: dict[str, Any] = {"name": name or "/", "path": path, "type_id": type_id, "type": caption}
    if parent:
        file["parent_folder"] = parent
    if sha256:
        file["hashes"] = [{"algorithm_id": _SHA256, "algorithm": "SHA-256", "value": sha256}]
    return file


def _process(incident: Incident) -> dict[str, Any]:
    if not incident.lineage:
        return {}
    first, *others = incident.lineage
    process: dict[str, Any] = {
        "pid": first.pid,
        "uid": _uid(incident, first),
        "name": _name(first),
        "path": first.image.filename,
        "user": {"uid": str(first.image.uid)},
    }
    offender = incident.offender
    process["cmd_line"] = " ".join(_command(incident))
    if first.image.filename:
        process["file"] = _file(first.image.filename, incident.process_sha256, is_regular=True)
    if offender and offender.cwd:
        process["working_directory"] = offender.cwd
    parents = [step for step in others if step.relation == "fork"]  # "exec" is an earlier image of the same process
    if parents:
        process["parent_process"] = _parent(incident, parents[0])
        process["ancestry"] = [_ancestor(incident, step) for step in parents[:MAX_ANCESTRY]]
    return process


def _parent(incident: Incident, step: Step) -> dict[str, Any]:
    parent = _ancestor(incident, step)
    if step.image.filename:
        parent["file"] = _file(step.image.filename, step.sha256, is_regular=True)
    return parent


def _ancestor(incident: Incident, step: Step) -> dict[str, Any]:
    """What OCSF's ancestry has room for: its hash is in ``unmapped.lineage``, and the next one's in the parent."""
    return {
        "pid": step.pid,
        "uid": _uid(incident, step),
        "name": _name(step),
        "path": step.image.filename,
        "cmd_line": " ".join((step.image.argv0, *step.image.args_head)),
    }


def _command(incident: Incident) -> list[str]:
    """The offender's arguments: as they were seen, or as they were recorded."""
    image, seen = incident.lineage[0].image, incident.offender
    return list(seen.command if seen and seen.command else (image.argv0, *image.args_head))


def _lineage(incident: Incident) -> list[dict[str, Any]]:
    """The lineage whole: OCSF's ancestry has no place for what a process was before it executed something else."""
    return [
        {
            "relation": step.relation,
            **_ancestor(incident, step),
            "sha256": incident.sha256_of(index),
            "taints": [*step.image.taints, *step.tampered],
        }
        for index, step in enumerate(incident.lineage)
    ]


def _uid(incident: Incident, step: Step) -> str:
    """Our own ids, which are never used twice, unlike pids."""
    return f"{incident.epoch or 'unknown'}/{step.proc_id}/{step.image.exec_id}"


def _name(step: Step) -> str:
    return step.image.filename.rpartition("/")[2] or step.image.argv0 or "unknown"
