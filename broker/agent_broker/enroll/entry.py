"""An enrolment as the registry keeps it."""

import msgspec

from agent_broker.enroll.history import first_approvals
from agent_broker.enroll.plan import Plan
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.settings_places import settings_of
from agent_broker.enroll.user_files import UserFiles
from agent_broker.identity.registry import Account, DecoyFile, Enrollment


def enrollment_of(plan: Plan, survey: Survey, files: UserFiles, started_ns: int) -> Enrollment:
    """Return the entry of an applied plan; ``survey`` is the one that was applied."""
    return Enrollment(
        agent=plan.agent,
        owner_uid=plan.owner.uid,
        owner_name=plan.owner.name,
        binaries=tuple(binary.enrolled for binary in plan.binaries),
        role=plan.role,
        decoys=tuple(_with_digests(decoy, survey, files) for decoy in plan.decoys),
        credentials=tuple(credential.id for credential in plan.credentials),
        enrolled_ns=started_ns,
        allowed_environment=(*(each.allowance for each in plan.allowed), *(plan.tool.allowed if plan.tool else ())),
        history=first_approvals((each.enrolled for each in plan.binaries), started_ns),
        settings=(*settings_of(plan.agent, plan.owner.home), *survey.settings),
        accounts=(Account(plan.account, plan.active),) if plan.tool is None else (),
        serving=None if plan.tool is None else plan.tool.serving,
    )


def _with_digests(decoy: DecoyFile, survey: Survey, files: UserFiles) -> DecoyFile:
    """By the survey that was applied: the plan's had made other values."""
    made = {files.absolute(each.path): each.values_sha256 for each in survey.decoys}
    return msgspec.structs.replace(decoy, values_sha256=made.get(decoy.path, ()))
