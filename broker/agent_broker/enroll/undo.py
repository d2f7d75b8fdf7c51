"""Undo an enrolment, from whatever state it is in. Nothing is ever in neither place: the files first, then the vault.

1. Journal ``restoring``. The policy and the registry entry go, the monitor and the broker read both: from here the
   phantom is worthless and the decoys are not watched, so that putting the files back raises no alert.
2. Each file is put back (see restore).
3. Journal ``emptying``. The vault's records go, then the journal.

Each step may be repeated, so a killed undo is finished by running it again.
"""

from pathlib import Path

import msgspec

from agent_broker.disk import sweep
from agent_broker.enroll.file_state import KnownFolder
from agent_broker.enroll.helper_links import remove_links
from agent_broker.enroll.journal import Transaction, TransactionFolder
from agent_broker.enroll.policy_file import policy_path, remove_policy
from agent_broker.enroll.ports import Site
from agent_broker.enroll.report import Outcome, Report
from agent_broker.enroll.restore import Restorer
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError, UnavailableError
from agent_broker.identity.registry import Enrollment, load_registry, remove_enrollment
from agent_broker.ids import AgentName, Uid


def unenroll(agent: AgentName, owner_uid: Uid, site: Site) -> Report:
    """Put a home back and forget the agent.

    Raises:
        MisuseError: it is not enrolled, or a file is something now that may not be touched; nothing was changed.
        UnavailableError: another transaction is at work; the vault or the disk did not do its part: run it again.
    """
    with TransactionFolder(site.journal_dir) as journal:
        transaction = journal.find(agent, owner_uid)
        if transaction is None:
            raise MisuseError(f"{agent} of user id {owner_uid} is not enrolled", next_step="agent-broker agents")
        _require_safe(transaction)
        return undo(transaction, journal, site)


def undo(
    transaction: Transaction, journal: TransactionFolder, site: Site, folders: tuple[KnownFolder, ...] = ()
) -> Report:
    """Undo a transaction whose journal's lock is held. See the module.

    Args:
        transaction: what was journalled of it.
        journal: the journals.
        site: where and with what.
        folders: what must still be the same folder. None are known any more when a person runs it later.

    Raises:
        MisuseError, UnavailableError, IntegrityError: see unenroll; the journal stays, and it can be run again.
    """
    outcomes: tuple[Outcome, ...] = ()
    warnings: tuple[str, ...] = ()
    if transaction.state in ("rewriting", "enrolled", "restoring"):
        transaction = journal.write(msgspec.structs.replace(transaction, state="restoring"))
        site.on_step("journal: restoring")
        warnings = _withdraw(transaction, site)
        outcomes = _restore(transaction, journal, site, folders)
    remove_links(transaction.links)
    journal.write(msgspec.structs.replace(transaction, state="emptying"))
    site.on_step("journal: emptying")
    site.store.remove_agent(transaction.agent, transaction.owner_uid)
    site.on_step("emptied the vault")
    journal.forget(transaction)
    site.on_step("journal: gone")
    return Report(transaction.agent, transaction.owner_name, "not enrolled", outcomes, warnings)


def _withdraw(transaction: Transaction, site: Site) -> tuple[str, ...]:
    """Take the agent out of the policy and the registry, and have both daemons notice."""
    warnings = []
    path = policy_path(site.policy_dir, transaction.agent, transaction.owner_uid)
    left = remove_policy(path, transaction.policy_sha256)
    if left:
        warnings.append(left)
    sweep(path.parent, path.name)
    site.on_step("removed the policy")
    for folder, enrollment in _everybody(site):
        if (enrollment.agent, enrollment.owner_uid) == (transaction.agent, transaction.owner_uid):
            warnings += _forget_accounts(enrollment, site)
            warnings += _forget_added(enrollment, transaction)
            remove_enrollment(folder, enrollment)
    for folder in site.registries:
        sweep(folder, f"{transaction.agent}-{transaction.owner_uid}.json")
    site.on_step("unregistered")
    try:
        warnings += site.watch.reload().problems
    except UnavailableError as error:
        warnings.append(f"the monitor was not told ({error.message}); it reads the registry when it starts")
    site.on_step("reloaded")
    return tuple(warnings)


def _everybody(site: Site) -> list[tuple[Path, Enrollment]]:
    return [(folder, each) for folder in site.registries for each in load_registry(folder)]


def _forget_accounts(enrollment: Enrollment, site: Site) -> list[str]:
    """Remove the rules of the further accounts; their keys, which are in no file, go with the vault's records."""
    said = []
    for account in enrollment.accounts[1:]:
        path = policy_path(site.policy_dir, enrollment.agent, enrollment.owner_uid, account.name)
        left = remove_policy(path, account.policy_sha256)
        said += [left] if left else []
        said.append(f"the key of the account {account.name} was in no file: it is deleted")
    return said


def _forget_added(enrollment: Enrollment, transaction: Transaction) -> list[str]:
    """Say which credentials go with the vault's records and were in no file."""
    moved = {each.id for each in transaction.moved}
    added = [each for each in enrollment.credentials if each not in moved] if enrollment.serving else []
    return [f"{each} was added later and is in no file: it is deleted" for each in added]


def _restore(
    transaction: Transaction, journal: TransactionFolder, site: Site, folders: tuple[KnownFolder, ...]
) -> tuple[Outcome, ...]:
    outcomes = []
    with UserFiles(transaction.owner, (journal.lock_fd,), folders) as files:
        restorer = Restorer(transaction, site.store, files)
        for record in reversed(transaction.files):
            outcomes.append(restorer.restore(record))
            site.on_step(f"restored {record.path}")
    return tuple(outcomes)


def _require_safe(transaction: Transaction) -> None:
    """Find out before anything is changed what may not be touched, without opening a file that is still watched."""
    with UserFiles(transaction.owner) as files:
        for record in transaction.files:
            files.check_plain(record.path)
            size_bytes = record.original.size_bytes if record.original else 0
            files.rehearse(record.path, size_bytes, transaction.owner_gid)
