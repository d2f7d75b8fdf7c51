"""Whether nobody is an agent because the agent was updated: a look at the names in a lineage, for the text of a no.

It grants nothing and identifies nobody: the refusal stands. It only tells a new version in the place of an enrolled
one from a stranger, so that a person reads what to do, and the user's own update freezes nothing. Of root's files no
stranger can take the place; of a user's own files any process of the user can, and that is what ``approve`` asks about.
"""

import posixpath
import re

from msgspec import Struct

from agent_broker.identity.evidence import Evidence
from agent_broker.identity.registry import EnrolledBinary, Enrollment
from agent_broker.ids import AgentName
from agent_broker.lineage.image import own_image
from agent_broker.lineage.record import Image

_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+)+\S*")


class Updated(Struct, frozen=True):
    """A program that runs from the place of an enrolled one, and is not it."""

    image: Image
    sentence: str
    next_step: str


def find_updated(evidence: Evidence, agent: AgentName, enrollments: tuple[Enrollment, ...]) -> Updated | None:
    """Return the nearest program of a lineage that seems to be a new version of the owner's agent; None: none does."""
    for enrollment in enrollments:
        if (enrollment.agent, enrollment.owner_uid) != (agent, evidence.uid):
            continue
        for step in evidence.steps:
            if step.relation == "exec" or not own_image(step.image, step.proc_id):
                continue
            for binary in enrollment.binaries:
                if _has_place(step.image, enrollment, binary):
                    return _updated(step.image, enrollment, binary)
    return None


def _has_place(image: Image, enrollment: Enrollment, binary: EnrolledBinary) -> bool:
    """Compare what execve was given with where the agent is; in a user namespace a path may lead anywhere."""
    if not image.observed or image.user_namespace or image.taints or image.uid != enrollment.owner_uid:
        return False
    if binary.script is not None:
        places = (binary.script.path, *binary.launchers)
        started = image.args_head[0] if image.args_head else ""
        return image.filename in places or (image.filename == binary.path and started in places)
    if posixpath.basename(image.argv0) not in enrollment.role.argv0_names:
        return False
    return image.filename in (binary.path, *binary.launchers) or _is_sibling_version(image.filename, binary.path)


def _is_sibling_version(filename: str, enrolled: str) -> bool:
    """Tell ``versions/2.1.331`` beside an enrolled ``versions/2.1.330``."""
    folder, name = posixpath.split(filename)
    enrolled_folder, enrolled_name = posixpath.split(enrolled)
    return folder == enrolled_folder and all(_VERSION.fullmatch(each) for each in (name, enrolled_name))


def _updated(image: Image, enrollment: Enrollment, binary: EnrolledBinary) -> Updated:
    sha256 = binary.sha256 if binary.script is None else binary.script.sha256
    known = [each.version for each in enrollment.history if each.sha256 == sha256 and each.version]
    version = f" ({known[-1]})" if known else ""
    return Updated(
        image,
        f"{enrollment.agent} at {image.filename} is not what was enrolled{version}",
        f"if you updated it: sudo agent-broker approve {enrollment.agent}",
    )
