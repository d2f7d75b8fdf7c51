"""Whether an agent gets nothing because it was updated: a look at its lineage, for the text of a no.

It grants nothing and identifies nobody: the refusal stands. It only tells a new version in the place of an enrolled
one from a stranger, so that a person reads what to do, and the user's own update freezes nothing. Of root's files no
stranger can take the place; of a user's own files any process of the user can, and that is what ``approve`` asks about.

A native agent's new version is nobody, and told by its place. An interpreted one's is known by interpreter and path of
its script: it is the agent, tainted by its package alone (Evidence.is_updated).
"""

import posixpath
import re
from collections.abc import Iterable

from msgspec import Struct

from agent_broker.identity.evidence import Evidence
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.ids import AgentName
from agent_broker.lineage.image import own_image
from agent_broker.lineage.record import Image

_NEXT_STEP = "if you updated it: sudo agent-broker approve {agent}"
_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+)+\S*")


class Updated(Struct, frozen=True):
    """A program that runs from the place of an enrolled one, and is not it."""

    is_caller: bool
    """False: the caller is something below it."""
    sentence: str
    next_step: str


def find_updated(evidence: Evidence, agent: AgentName, enrollments: tuple[Enrollment, ...]) -> Updated | None:
    """Return the nearest program of a lineage that seems to be a new version of the owner's agent; None: none does."""
    if evidence.principal is not None:
        return _updated_principal(evidence, agent, enrollments)
    for enrollment in enrollments:
        if (enrollment.agent, enrollment.owner_uid) != (agent, evidence.uid):
            continue
        for step in evidence.steps:
            if step.relation == "exec" or not own_image(step.image, step.proc_id):
                continue
            for binary in enrollment.binaries:
                if _has_place(step.image, enrollment, binary):
                    place = _place_of(step.image, enrollment, binary)
                    return _updated(place, enrollment, binary, is_caller=step is evidence.steps[0])
    return None


def _has_place(image: Image, enrollment: Enrollment, binary: EnrolledBinary) -> bool:
    """Compare what execve was given with where the agent is; in a user namespace a path may lead anywhere."""
    if not image.observed or image.user_namespace or image.taints or image.uid != enrollment.owner_uid:
        return False
    if binary.script is not None:
        places = (binary.script.path, *binary.launchers)
        started = _script_of(image.args_head, enrollment.role.interpreter_options)
        return image.filename in places or (image.filename == binary.path and started in places)
    if posixpath.basename(image.argv0) not in enrollment.role.argv0_names:
        return False
    return image.filename in (binary.path, *binary.launchers) or _is_sibling_version(image.filename, binary.path)


def _place_of(image: Image, enrollment: Enrollment, binary: EnrolledBinary) -> str:
    """Return the path that a person knows it by: of an interpreted agent its script's, not its interpreter's."""
    if binary.script is None or image.filename != binary.path:
        return image.filename
    return _script_of(image.args_head, enrollment.role.interpreter_options)


def other_interpreter(evidence: Evidence, agent: AgentName, enrollments: tuple[Enrollment, ...]) -> str:
    """Return a sentence if the caller runs an enrolled script by another interpreter than the enrolled; else nothing.

    By names, which any process can have: it is for a person to read, and makes nothing less grave.
    """
    image = evidence.caller
    for enrollment in enrollments:
        if (enrollment.agent, enrollment.owner_uid) != (agent, evidence.uid):
            continue
        started = _script_of(image.args_head, enrollment.role.interpreter_options)
        if posixpath.basename(image.argv0) not in enrollment.role.argv0_names:
            continue
        for binary in enrollment.binaries:
            places = () if binary.script is None else (binary.script.path, *binary.launchers)
            if started in places and image.filename != binary.path:
                return f"{agent} was started with {image.filename}, and is enrolled with {binary.path}"
    return ""


def _script_of(arguments: Iterable[str], options: tuple[str, ...]) -> str:
    """Return the first argument that is no enrolled option of the interpreter."""
    return next((each for each in arguments if not any(re.fullmatch(option, each) for option in options)), "")


def _updated_principal(evidence: Evidence, agent: AgentName, enrollments: tuple[Enrollment, ...]) -> Updated | None:
    principal = evidence.principal
    if principal is None or principal.agent != agent or not evidence.is_updated:
        return None
    for enrollment in enrollments:
        if (enrollment.agent, enrollment.owner_uid) == (agent, principal.owner_uid):
            for binary in enrollment.binaries:
                if binary.script is not None and binary.sha256 == principal.sha256:
                    return _updated(binary.script.bundle.root, enrollment, binary, is_caller=principal.is_caller)
    return Updated(principal.is_caller, f"{agent} is not what was enrolled", _NEXT_STEP.format(agent=agent))


def _is_sibling_version(filename: str, enrolled: str) -> bool:
    """Tell ``versions/2.1.331`` beside an enrolled ``versions/2.1.330``."""
    folder, name = posixpath.split(filename)
    enrolled_folder, enrolled_name = posixpath.split(enrolled)
    return folder == enrolled_folder and all(_VERSION.fullmatch(each) for each in (name, enrolled_name))


def _updated(place: str, enrollment: Enrollment, binary: EnrolledBinary, *, is_caller: bool) -> Updated:
    sha256 = binary.sha256 if binary.script is None else binary.script.sha256
    known = [each.version for each in enrollment.history if each.sha256 == sha256 and each.version]
    version = f" ({known[-1]})" if known else ""
    return Updated(
        is_caller,
        f"{enrollment.agent} at {place} is not what was enrolled{version}",
        _NEXT_STEP.format(agent=enrollment.agent),
    )
