"""Finish what a kill or a power loss interrupted: afterwards each home is as it was, or enrolled."""

import msgspec

from agent_broker.enroll.journal import Transaction, TransactionFolder
from agent_broker.enroll.ports import Site
from agent_broker.enroll.report import Report
from agent_broker.enroll.undo import undo
from agent_broker.identity.registry import load_registry


def recover(site: Site) -> tuple[Report, ...]:
    """Finish every interrupted transaction; return one report each, none if there was none.

    An enrolment that had reached the registry is completed; any other is undone. An undoing is completed.

    Raises:
        MisuseError, UnavailableError, IntegrityError: see undo; what was finished before stays finished.
    """
    with TransactionFolder(site.journal_dir) as journal:
        interrupted = [transaction for transaction in journal.all() if transaction.state != "enrolled"]
        return tuple(_finish(transaction, journal, site) for transaction in interrupted)


def _finish(transaction: Transaction, journal: TransactionFolder, site: Site) -> Report:
    if transaction.state != "rewriting" or not _is_registered(transaction, site):
        return undo(transaction, journal, site)
    answer = site.watch.reload()
    site.on_step("reloaded")
    journal.write(msgspec.structs.replace(transaction, state="enrolled"))
    site.on_step("journal: enrolled")
    return Report(transaction.agent, transaction.owner_name, "enrolled", (), answer.problems)


def _is_registered(transaction: Transaction, site: Site) -> bool:
    """Say whether the enrolment counted: everything before the registry was durable then."""
    return any(
        (enrollment.agent, enrollment.owner_uid) == (transaction.agent, transaction.owner_uid)
        for folder in site.registries
        for enrollment in load_registry(folder)
    )
