"""Carry out a plan. The journal first; at every step each secret is in its file, or in the vault, or in both.

1. Lock, and survey again: anything that differs from the plan stops here, with nothing changed, and so does anything
   that would make the rest fail (see file_rehearsal).
2. Journal ``sealing``. Each file's bytes, then each credential, go into the vault; a phantom is made.
3. Journal ``rewriting``, with the digests of the files to come. Each file: staged beside the old one, exchanged,
   the old one deleted.
4. The home is searched for what was moved; what is left is reported. Each file must still hold what was written.
5. Policy, then registry (the enrolment counts from here), then the monitor and the broker read both.
6. Journal ``enrolled``.

Any error on the way undoes everything before it is raised; a kill leaves the journal, and ``recover`` does the same.
"""

from agent_broker.enroll.binaries import unchanged
from agent_broker.enroll.enrolment import Enrolling
from agent_broker.enroll.file_problems import HomeChangedError
from agent_broker.enroll.journal import TransactionFolder
from agent_broker.enroll.plan import Plan, planned_files, planned_folders, rehearse
from agent_broker.enroll.ports import Site
from agent_broker.enroll.recipe import Survey
from agent_broker.enroll.report import Report
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError


def apply_plan(plan: Plan, site: Site, *, injection_url: str) -> Report:
    """Enroll, or change nothing.

    Args:
        plan: what was agreed to.
        site: where and with what.
        injection_url: the broker's loopback endpoint, as the agent is to call it.

    Raises:
        HomeChangedError: the home or an executable is not as it was planned; a new plan may be made.
        MisuseError: a file may not be touched, or it is enrolled already.
        UnavailableError: another transaction is at work; the vault, the monitor or the disk did not do its part.
        IntegrityError: it failed, and could not be undone either: ``recover`` will.
    """
    with (
        TransactionFolder(site.journal_dir) as journal,
        UserFiles(plan.owner, (journal.lock_fd,), plan.folders) as files,
    ):
        _require_none_yet(plan, journal)
        survey = plan.recipe.survey(files, plan.owner)
        _require_as_planned(plan, survey, files)
        rehearse(survey, files, plan.owner)
        enrolling = Enrolling(plan, site, injection_url, journal, files, survey)
        try:
            return enrolling.run()
        except (Exception, KeyboardInterrupt) as error:
            enrolling.undo_after(error)
            raise


def _require_none_yet(plan: Plan, journal: TransactionFolder) -> None:
    earlier = journal.find(plan.agent, plan.owner.uid)
    if earlier is not None:
        done = earlier.state == "enrolled"
        raise MisuseError(
            f"{plan.agent} of user {plan.owner.name} " + ("is enrolled already" if done else "was left half-way"),
            next_step=f"agent-broker unenroll {plan.agent}" if done else "agent-broker enroll --recover",
        )


def _require_as_planned(plan: Plan, survey: Survey, files: UserFiles) -> None:
    home = plan.owner.home.rstrip("/")
    paths = {each.path for each in set(planned_files(survey)) ^ set(plan.files)}
    paths |= {each.path for each in set(planned_folders(survey, files)) ^ set(plan.folders)}
    changed = [f"{home}/{path}" for path in sorted(paths)]
    changed += [binary.enrolled.path for binary in plan.binaries if not unchanged(binary)]
    if changed:
        raise HomeChangedError(
            f"{', '.join(changed)} changed since the plan was made; nothing was done",
            next_step="stop the agent, then make the plan again",
        )
